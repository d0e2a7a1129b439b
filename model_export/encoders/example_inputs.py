"""Inputs that graphs are compared on: noise, and frames, sound and texts like those they will meet."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

import model_export
from model_export.encoders.encoder_types import AudioEncoder, ImageEncoder, TextEncoder
from service.decode import decode_clip
from service.encode.clip_features import audio_windows
from service.media import Clip, DecodeLimits, DecodeSpec

_CLIPS = ("heart-with-a-chime.mp4", "swirl-with-a-siren.mp4", "cog-with-a-beep.mp4")
_TEXTS = (
    "bell",
    "a photo of a dog.",
    "This is a sound of a person playing the accordion, far away.",
    "long " * 200,
)
_SEED = 0


def frame_batches(encoder: ImageEncoder) -> list[Tensor]:
    """Noise first, then frames of clips: uint8 [n, size, size, 3]."""
    size = encoder.size_px
    noise = torch.randint(0, 256, (2, size, size, 3), generator=_draw(), dtype=torch.uint8)
    clips = _clips(DecodeSpec(1, size, 8000, 1.0, resize=encoder.resize))
    frames = [clip.frames for clip in clips if clip.frames is not None] or [_gradients(size)]
    return [noise, torch.from_numpy(np.concatenate(frames))]


def waveform_batches(encoder: AudioEncoder) -> list[Tensor]:
    """Noise first, then windows of clips: float32 [n, window]."""
    rate, window = encoder.sample_rate_hz, round(encoder.window_s * encoder.sample_rate_hz)
    noise = 0.1 * torch.randn(2, window, generator=_draw())
    clips = _clips(DecodeSpec(1, 32, rate, encoder.window_s))
    sounds = [clip.waveform for clip in clips if clip.waveform is not None] or [_chord(rate)]
    windows = [audio_windows(sound, window=window, hop=window, padding=encoder.padding) for sound in sounds]
    return [noise, torch.from_numpy(np.concatenate(windows))]


def token_batches(text: TextEncoder) -> list[Tensor]:
    """Random ids first, then texts, padded to the context length and unpadded: int64 [n, length]."""
    length = 9 if text.dynamic_length else text.context_length
    noise = torch.randint(2, text.tokenizer.get_vocab_size(), (2, length), generator=_draw())
    rows = [_row(text, words) for words in _TEXTS]
    full = torch.tensor([row + [text.pad_id] * (text.context_length - len(row)) for row in rows])
    short = [torch.tensor([row]) for row in rows] if text.dynamic_length else []
    return [noise, full, *short]


def _row(text: TextEncoder, words: str) -> list[int]:
    ids = text.tokenizer.encode(words).ids
    return ids[: text.context_length - 1] + ids[-1:] if len(ids) > text.context_length else ids


def _draw() -> torch.Generator:
    return torch.Generator().manual_seed(_SEED)


def _clips(spec: DecodeSpec) -> list[Clip]:
    """Example clips of the repository; an installed package has none."""
    folder = Path(model_export.__file__).parents[1] / "examples"
    return [decode_clip(folder / name, spec, DecodeLimits()) for name in _CLIPS if (folder / name).is_file()]


def _gradients(size: int) -> NDArray[np.uint8]:
    """A picture in which every channel runs in another direction, uint8 [1, size, size, 3]."""
    ramp = np.linspace(0, 255, size)
    across, down = np.broadcast_to(ramp, (size, size)), np.broadcast_to(ramp[:, None], (size, size))
    return np.stack([across, down, 255 - across], axis=-1)[None].astype(np.uint8)


def _chord(rate_hz: int) -> NDArray[np.float32]:
    """A second of three tones that fade, float32 [n_samples]."""
    time_s = np.arange(rate_hz) / rate_hz
    tones = [np.sin(2 * np.pi * frequency_hz * time_s) for frequency_hz in (220.0, 330.0, 1760.0)]
    faded: NDArray[np.float64] = 0.2 * np.exp(-time_s) * np.sum(tones, axis=0)
    return faded.astype(np.float32)
