"""The lean form of a network computes what the original computes, and leaves the original alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from model_export.encoders.encoder_modules import LogMel
from model_export.encoders.lean_modules import SelfAttention, lean
from tests.model_export.encoders.small_encoders import small_audio_encoder, small_image_encoder


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
