"""Cut a waveform into the windows that the audio encoder takes: always the same ones for the same clip."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from service.bundle.manifest import Padding

Array = NDArray[np.float32]

# A rest of less than this share of a window gets none of its own: codecs pad sound to whole frames, so that a
# clip of exactly one window has some milliseconds more, and would cost two.
_LEAST_REST = 0.01


def audio_windows(waveform: Array, *, window: int, hop: int, padding: Padding) -> Array:
    """Windows at 0, hop, 2 hop ... and, if more than a hundredth of a window is left, one at the very end.

    So every window is full of sound, and a clip a little longer than a window is not half judged by padding.

    Args:
        waveform: float32 [n_samples], n_samples >= 1.
        window: samples in a window.
        hop: samples from one window's start to the next.
        padding: what fills the window of a waveform shorter than it, as `AudioTower.padding` says.

    Returns:
        float32 [n_windows, window], n_windows >= 1.
    """
    n_samples = len(waveform)
    if n_samples < window:
        return _filled(waveform, window, padding)[None]
    starts = list(range(0, n_samples - window + 1, hop))
    if starts[-1] + window + _LEAST_REST * window < n_samples:
        starts.append(n_samples - window)
    return np.stack([waveform[start : start + window] for start in starts])


def _filled(waveform: Array, window: int, padding: Padding) -> Array:
    if padding == "repeat":
        return np.resize(waveform, window)
    n_times = window // len(waveform) if padding == "repeat_whole" else 1
    sound = np.tile(waveform, n_times)
    return np.pad(sound, (0, window - len(sound)))
