"""The lean form of a network computes what the original computes, and leaves the original alone."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import ClapAudioConfig
from transformers.models.clap.modeling_clap import ClapAudioLayer

from model_export.encoders.clap_networks import build_clap
from model_export.encoders.encoder_modules import LogMel
from model_export.encoders.lean_modules import SelfAttention, WindowAttention, lean
from tests.model_export.encoders.small_encoders import SHALLOW, small_audio_encoder, small_image_encoder


@pytest.mark.parametrize("masked", [False, True])
@torch.no_grad()
def test_attention_is_torchs(masked: bool) -> None:
    """With and without a mask that hides what comes later."""
    torch.manual_seed(0)
    original = nn.MultiheadAttention(24, 3, batch_first=True)
    nn.init.normal_(original.in_proj_bias)
    x = torch.randn(2, 5, 24)
    mask = torch.full((5, 5), float("-inf")).triu(1) if masked else None
    expected, _ = original(x, x, x, need_weights=False, attn_mask=mask)
    found, _ = SelfAttention(original)(x, x, x, need_weights=False, attn_mask=mask)
    torch.testing.assert_close(found, expected)


def _window_attention(kind: str) -> tuple[Any, Tensor]:
    """The attention of one block as CLAP's two packages have it, and the mask of a shifted block."""
    if kind == "laion_clap":
        build_clap("HTSAT-tiny", SHALLOW)  # makes the package importable
        htsat = importlib.import_module("clap_module.htsat")
        block = htsat.SwinTransformerBlock(24, (8, 8), 3, window_size=4, shift_size=2)
        return block.attn, block.attn_mask
    config = ClapAudioConfig(window_size=4)
    layer: Any = ClapAudioLayer(config, 24, (8, 8), 3, shift_size=2)  # type: ignore[no-untyped-call]
    return layer.attention.self, layer.get_attn_mask(8, 8, torch.float32, "cpu")


@pytest.mark.parametrize("kind", ["laion_clap", "transformers"])
@pytest.mark.parametrize("masked", [False, True])
@torch.no_grad()
def test_attention_in_windows_is_claps(kind: str, masked: bool) -> None:
    """Of two pictures with four windows each; the original is left alone."""
    torch.manual_seed(0)
    original, mask = _window_attention(kind)
    nn.init.normal_(original.relative_position_bias_table)
    x = torch.randn(2 * 4, 16, 24)
    given = (x, mask) if masked else (x,)
    expected = original(*given)[0]
    found = WindowAttention(original)(*given)[0]
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(original(*given)[0], expected, rtol=0, atol=0)


@torch.no_grad()
def test_weights_behind_a_mask_are_numbers_that_processors_are_quick_at() -> None:
    """They count for nothing, and none of them is below the smallest normal number, as CLAP's own are."""
    torch.manual_seed(0)
    original, mask = _window_attention("laion_clap")
    x = torch.randn(4, 16, 24)
    hidden = mask[:, None].expand(-1, 3, -1, -1) < 0
    slow, quick = (attention(x, mask)[1][hidden] for attention in (original, WindowAttention(original)))
    smallest = torch.finfo(torch.float32).smallest_normal
    assert 0 < slow.max() < smallest
    assert smallest < quick.min()
    assert quick.max() < 1e-18


@torch.no_grad()
def test_a_spectrogram_keeps_every_frequency_that_counts() -> None:
    """Bins above the last filter are gone from the convolutions, and nothing changes."""
    torch.manual_seed(0)
    original = LogMel(sample_rate_hz=16_000, n_fft=512, hop=160, n_mels=16, f_min=50, f_max=4_000).eval()
    smaller = lean(original)
    waveform = torch.randn(2, 16_000)
    torch.testing.assert_close(smaller(waveform), original(waveform))
    n_rows = {name: len(tensor) for name, tensor in smaller.named_parameters() if "conv_" in name}
    assert set(n_rows.values()) == {128}, "4 of 8 kHz"
    assert len(original.spectrogram.stft.conv_real.weight) == 257


@torch.no_grad()
def test_whole_encoders_give_the_same_features(tmp_path: Path) -> None:
    """Of an open_clip model and of a CLAP in transformers' format; the originals still have their parts."""
    image, sound = small_image_encoder(), small_audio_encoder(tmp_path)
    frames = torch.randint(0, 256, (3, 32, 32, 3), dtype=torch.uint8)
    waveform = 0.1 * torch.randn(2, 16_000)
    torch.testing.assert_close(lean(image.module)(frames), image.module(frames), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(lean(sound.module)(waveform), sound.module(waveform), atol=1e-5, rtol=1e-5)
    kinds = {type(module) for module in lean(image.module).modules()}
    assert SelfAttention in kinds
    assert nn.MultiheadAttention not in kinds
    assert nn.MultiheadAttention in {type(module) for module in image.module.modules()}
    assert WindowAttention in {type(module) for module in lean(sound.module).modules()}
    laions = lean(build_clap("HTSAT-tiny", SHALLOW)[0])
    assert WindowAttention in {type(module) for module in laions.modules()}
