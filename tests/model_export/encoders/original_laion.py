"""laion_clap as its authors run it, as an oracle: its data pipeline, and its network without our change."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from functools import cache
from types import ModuleType
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from model_export.encoders import clap_networks
from model_export.export.quiet_libraries import quiet

# What the hook of laion_clap passes on for a model without fusion.
_HOW = {"data_truncating": "rand_trunc", "data_filling": "repeatpad"}


@cache
def data_module() -> Any:
    """laion_clap.training.data, whose import loads three tokenizers from the hub; here it gets none."""
    none = _NoTokenizer
    tokenizers = patch.multiple("transformers", BertTokenizer=none, RobertaTokenizer=none, BartTokenizer=none)
    with quiet(), tokenizers:
        return importlib.import_module("laion_clap.training.data")


@torch.no_grad()
def audio_embedding(network: Any, sounds: list[NDArray[np.float32]], audio_cfg: dict[str, Any]) -> Tensor:
    """What CLAP_Module.get_audio_embedding_from_data does with sounds of any length, line by line."""
    data, read = data_module(), []
    for sound in sounds:
        quantised = torch.from_numpy(data.int16_to_float32(data.float32_to_int16(sound))).float()
        read.append(data.get_audio_features({}, quantised, 480_000, audio_cfg=audio_cfg, **_HOW))
    with _its_own_window_reverse():
        found: Tensor = network.get_audio_embedding(read)
    return found


@torch.no_grad()
def text_embedding(network: nn.Module, tokens: Tensor, pad_id: int) -> Tensor:
    """CLAP.get_text_embedding on tokens and the mask that RobertaTokenizer gives with them."""
    mask = (tokens != pad_id).long()
    found: Tensor = network.get_text_embedding({"input_ids": tokens, "attention_mask": mask})  # type: ignore[operator]
    return found


def padded(sound: NDArray[np.float32]) -> NDArray[np.float32]:
    """A sound of at most 10 s as laion_clap fills it up."""
    read = data_module().get_audio_features({}, torch.from_numpy(sound), 480_000, audio_cfg={}, **_HOW)
    return read["waveform"].numpy()  # type: ignore[no-any-return]


class _NoTokenizer:
    @staticmethod
    def from_pretrained(_: str) -> None:
        return None


def _its_own_window_reverse() -> Any:
    """The network as it is in the package, for as long as this lasts."""
    return patch.object(sys.modules["clap_module.htsat"], "window_reverse", _fresh_htsat().window_reverse)


@cache
def _fresh_htsat() -> ModuleType:
    path = clap_networks._package() / "clap_module" / "htsat.py"
    spec = importlib.util.spec_from_file_location("clap_module.fresh_htsat", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
