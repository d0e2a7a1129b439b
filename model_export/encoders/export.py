"""Inputs that the towers are exported and checked with."""

import torch
from torch import Tensor

from model_export.encoders.tiny import TinyConfig


def example_inputs(config: TinyConfig, n: int, seed: int = 0) -> dict[str, tuple[str, Tensor]]:
    """Random inputs of each tower, as tower name -> (input name, tensor with n rows)."""
    draw = torch.Generator().manual_seed(seed)
    size = config.image_size_px
    tokens = torch.randint(1, config.vocabulary_size, (n, config.context_length), generator=draw)
    tokens[:, config.context_length // 2 :] = 0
    frames = torch.randint(0, 256, (n, size, size, 3), generator=draw, dtype=torch.uint8)
    waveform = torch.randn(n, config.window_samples, generator=draw) * 0.1
    return {
        "visual": ("frames", frames),
        "audio": ("waveform", waveform),
        "text_visual": ("tokens", tokens),
        "text_audio": ("tokens", tokens),
    }
