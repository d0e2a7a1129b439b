"""Cut a waveform into the windows that the audio encoder takes: always the same ones for the same clip."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]


def audio_windows(waveform: Array, *, window: int, hop: int, padding: Literal["repeat", "zero"]) -> Array:
    """Windows at 0, hop, 2 hop ... until the waveform is covered.

    Args:
        waveform: float32 [n_samples], n_samples >= 1.
        window: samples in a window.
        hop: samples from one window's start to the next.
        padding: what fills the last window when the waveform ends inside it: the waveform's own last
            stretch repeated, or zeros.

    Returns:
        float32 [n_windows, window], n_windows >= 1.
    """
    n_samples = len(waveform)
    n_windows = 1 + max(0, -(-(n_samples - window) // hop))
    windows = np.zeros((n_windows, window), dtype=np.float32)
    for row, start in zip(windows, range(0, n_windows * hop, hop), strict=True):
        part = waveform[start : start + window]
        row[:] = np.resize(part, window) if padding == "repeat" else np.pad(part, (0, window - len(part)))
    return windows
