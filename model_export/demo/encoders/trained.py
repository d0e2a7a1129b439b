"""The four trained towers of the demo world with their tokenizer, as one value and as one directory."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import nn

from model_export.demo.encoders.subwords import encode
from model_export.demo.encoders.towers import AudioTower, TextTower, TinyConfig, VisualTower
from service.encode.features import pool

Floats = NDArray[np.float32]

CONFIG_FILE, TOKENIZER_FILE = "encoders.json", "tokenizer.json"


@dataclass(frozen=True)
class TinyEncoders:
    """The demo world's encoders, ready to use.

    Attributes:
        config: Their sizes.
        visual: Tower of the pictures.
        audio: Tower of the sounds.
        text_visual: Tower of texts beside the pictures.
        text_audio: Tower of texts beside the sounds.
        tokenizer: Of both text towers.
        logit_scale_visual: Learned factor on the cosine of picture and text, as in CLIP.
        logit_scale_audio: Learned factor on the cosine of sound and text, as in CLAP.
    """

    config: TinyConfig
    visual: VisualTower
    audio: AudioTower
    text_visual: TextTower
    text_audio: TextTower
    tokenizer: Tokenizer
    logit_scale_visual: float
    logit_scale_audio: float


@torch.no_grad()
def encode_prompts(
    tower: TextTower, tokenizer: Tokenizer, names: Sequence[str], templates: Sequence[str]
) -> Floats:
    """Text features [n, dim] of names, averaged over the templates."""
    prompts = [template.replace("{}", name) for name in names for template in templates]
    tokens = encode(tokenizer, prompts, tower.places.shape[0])
    features = tower(torch.from_numpy(tokens)).numpy().reshape(len(names), len(templates), -1)
    return np.stack([pool(group) for group in features])


def save_tower(tower: nn.Module, path: Path) -> None:
    """Writes a tower's weights."""
    save_file({name: tensor.contiguous() for name, tensor in tower.state_dict().items()}, path)


def save_config(folder: Path, config: TinyConfig, logit_scales: dict[str, float]) -> None:
    """Writes the sizes and the learned logit scales of "visual" and "audio"."""
    record = {"config": asdict(config), "logit_scales": logit_scales}
    (folder / CONFIG_FILE).write_text(json.dumps(record, indent=2) + "\n")


def load_encoders(folder: Path) -> TinyEncoders:
    """Reads the directory that `build_encoders` wrote."""
    record: dict[str, Any] = json.loads((folder / CONFIG_FILE).read_text())
    sizes: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in record["config"].items()}
    config = TinyConfig(**sizes)
    visual, audio = VisualTower(config), AudioTower(config)
    text_visual, text_audio = TextTower(config), TextTower(config)
    towers = {"visual": visual, "audio": audio, "text_visual": text_visual, "text_audio": text_audio}
    for name, tower in towers.items():
        tower.load_state_dict(load_file(folder / f"{name}.safetensors"))
        tower.eval()
    scales = record["logit_scales"]
    tokenizer = Tokenizer.from_file(str(folder / TOKENIZER_FILE))
    return TinyEncoders(
        config, visual, audio, text_visual, text_audio, tokenizer, scales["visual"], scales["audio"]
    )
