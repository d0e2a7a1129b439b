"""Encode a decoded clip: frames and audio windows to one feature vector per track."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from service.bundle.bundle import Bundle
from service.encode.features import ClipFeatures, pool
from service.encode.windows import audio_windows
from service.media import Clip

# Windows that run through the audio graph at once: bounds the memory that a long clip takes.
_WINDOWS_PER_BATCH = 16


def encode_clip(bundle: Bundle, clip: Clip) -> ClipFeatures:
    """Features of each track that the clip has; frames and windows are averaged and scaled to unit length."""
    return ClipFeatures(
        visual=None if clip.frames is None else pool(bundle.visual(frames=clip.frames)),
        audio=None if clip.waveform is None else _encode_sound(bundle, clip.waveform),
    )


def _encode_sound(bundle: Bundle, waveform: NDArray[np.float32]) -> NDArray[np.float32]:
    tower = bundle.manifest.audio
    windows = audio_windows(
        waveform,
        window=tower.window_samples,
        hop=tower.hop_samples,
        padding=tower.padding,
    )
    batches = range(0, len(windows), _WINDOWS_PER_BATCH)
    features = [bundle.audio(waveform=windows[start : start + _WINDOWS_PER_BATCH]) for start in batches]
    return pool(np.concatenate(features))
