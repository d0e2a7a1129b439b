"""Small models of the classes that real ones have: an open_clip CLIP and a ClapModel of transformers."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import open_clip
import torch
from transformers import ClapConfig, ClapModel, RobertaConfig

from model_export.encoders.audio_encoder import AudioChoice, load_audio_encoder
from model_export.encoders.clap_networks import ROBERTA_BASE, build_clap
from model_export.encoders.encoder_types import AudioEncoder, ImageEncoder
from model_export.encoders.image_encoder import ImageChoice, load_image_encoder
from model_export.encoders.tokenizer_file import stand_in_tokenizer

CLIP = "small-clip"
N_ROWS = 300
RATE_HZ = 16_000
# The real sound branch beside a text branch of one layer: 768 wide, as laion_clap's projection wants it.
SHALLOW = RobertaConfig(**{**ROBERTA_BASE.to_dict(), "num_hidden_layers": 1, "vocab_size": 300})


@cache
def register_small_clip() -> None:
    """Make open_clip know CLIP: ViT with one layer, OpenAI's text tower with one."""
    config = {
        "embed_dim": 24,
        "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "patch_size": 16},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
    }
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"{CLIP}.json"
        path.write_text(json.dumps(config))
        open_clip.add_model_config(path)


def small_image_encoder(seed: int = 0) -> ImageEncoder:
    """Random weights."""
    register_small_clip()
    return load_image_encoder(ImageChoice(CLIP), seed)


@cache
def shallow_clap() -> tuple[Any, dict[str, Any]]:
    """laion_clap's HTSAT-tiny with random weights, a shallow text branch, and its configuration of sound."""
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(0)
        network: Any
        network, facts = build_clap("HTSAT-tiny", SHALLOW)
        _unlike_fresh(network.audio_branch.bn0, -40, 150)
    return network, facts


def _unlike_fresh(norm: Any, mean: float, variance: float) -> None:
    """Fresh batch statistics are the identity; others show whether they are used."""
    torch.nn.init.uniform_(norm.running_mean, mean, -10)
    torch.nn.init.uniform_(norm.running_var, 50, variance)


def small_clap(**audio: Any) -> ClapModel:
    """Random weights; 1 s at 16 kHz."""
    torch.manual_seed(0)
    text: dict[str, Any] = {"vocab_size": N_ROWS, "hidden_size": 32, "intermediate_size": 64}
    text |= {"num_hidden_layers": 1, "num_attention_heads": 2, "max_position_embeddings": 80}
    sound: dict[str, Any] = {"spec_size": 64, "num_mel_bins": 16, "window_size": 4, "hidden_size": 32}
    sound |= {"depths": [2, 1], "num_attention_heads": [2, 4], "patch_embeds_hidden_size": 16}
    sound |= {"num_hidden_layers": 2}
    model: Any = ClapModel(ClapConfig(text_config=text, audio_config=sound | audio, projection_dim=20))
    _unlike_fresh(model.audio_model.audio_encoder.batch_norm, -30, 100)
    return model.eval()  # type: ignore[no-any-return]


def save_small_clap(folder: Path, **audio: Any) -> ClapModel:
    """As transformers saves it, with its settings of sound and a tokenizer."""
    model = small_clap(**audio)
    model.save_pretrained(folder)
    settings: dict[str, Any] = {"feature_size": 16, "sampling_rate": RATE_HZ, "hop_length": 160}
    settings |= {"max_length_s": 1, "fft_window_size": 512, "frequency_min": 50, "frequency_max": 7000}
    settings |= {"truncation": "rand_trunc"}
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    stand_in_tokenizer(N_ROWS).save(str(folder / "tokenizer.json"))
    return model


def small_audio_encoder(folder: Path) -> AudioEncoder:
    """From a folder of its own."""
    save_small_clap(folder)
    return load_audio_encoder(AudioChoice(checkpoint=folder))
