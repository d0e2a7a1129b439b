"""The CLAP network of laion_clap, built without what its package does on import: network, unsafe loading."""

from __future__ import annotations

import importlib
import importlib.util
import json
import sys
from pathlib import Path
from typing import Any
from unittest.mock import patch

from torch import Tensor, nn
from transformers import RobertaConfig, RobertaModel

from model_export.errors import EncoderError
from model_export.export.quiet import quiet

ROBERTA_BASE = RobertaConfig(
    vocab_size=50265,
    max_position_embeddings=514,
    type_vocab_size=1,
    layer_norm_eps=1e-5,
    pad_token_id=1,
    bos_token_id=0,
    eos_token_id=2,
)
"""What `roberta-base` is on the hub, where laion_clap would fetch it with its weights."""


def build_clap(name: str, roberta: RobertaConfig = ROBERTA_BASE) -> tuple[nn.Module, dict[str, Any]]:
    """A CLAP network with fresh weights and its configuration's part on sound.

    Args:
        name: A configuration of laion_clap with an HTSAT sound branch: HTSAT-tiny, HTSAT-base.
        roberta: Of the text branch.

    Raises:
        EncoderError: there is no such configuration.
    """
    folder = _package() / "clap_module" / "model_configs"
    names = sorted(file.stem for file in folder.glob("HTSAT-*.json"))
    if name not in names:
        raise EncoderError(
            f"laion_clap has no sound encoder {name!r} that can be exported; it has {', '.join(names)}"
        )
    config = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
    config["text_cfg"]["model_type"] = "roberta"
    with quiet():
        module = _clap_module()
        # The constructor asks the hub for roberta-base, weights and all, which the checkpoint replaces.
        with patch.object(module, "RobertaModel", _FromConfig(roberta)):
            network: nn.Module = module.CLAP(**config)
    return network.eval(), config["audio_cfg"]


class _FromConfig:
    """Stands where laion_clap calls RobertaModel.from_pretrained."""

    def __init__(self, config: RobertaConfig) -> None:
        self._config = config

    def from_pretrained(self, _: str) -> RobertaModel:
        return RobertaModel(self._config)


def _package() -> Path:
    """Where laion_clap is installed, found without importing it: its __init__ loads three tokenizers."""
    spec = importlib.util.find_spec("laion_clap")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError("No module named 'laion_clap'", name="laion_clap")
    return Path(spec.submodule_search_locations[0])


def _clap_module() -> Any:
    """Its inner package, which is at home on sys.path in laion_clap as well, and does nothing on import."""
    folder = str(_package())
    if folder not in sys.path:
        sys.path.append(folder)
    importlib.import_module("clap_module.htsat").window_reverse = _window_reverse  # type: ignore[attr-defined]
    return importlib.import_module("clap_module.model")


def _window_reverse(windows: Tensor, size: int, height: int, width: int) -> Tensor:
    """Put windows [n, size, size, channels] together again to [batch, height, width, channels].

    laion_clap's own works out the batch as a float and rounds it, which the exporter takes for a constant:
    the graph would mix up clips in any other batch than the one that it was traced with.
    """
    rows, columns = height // size, width // size
    tiles = windows.view(-1, rows, columns, size, size, windows.shape[-1])
    return tiles.permute(0, 1, 3, 2, 4, 5).reshape(-1, height, width, windows.shape[-1])
