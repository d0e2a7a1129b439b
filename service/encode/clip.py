"""Encode a decoded clip and its segments: frames and audio windows to one feature vector per track."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from service.arrays import Array
from service.bundle.manifest import Padding
from service.encode.encoders import Encoders, both
from service.encode.features import ClipFeatures, pool
from service.media import Clip

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


# Frames or windows that run through a graph at once: bounds the memory that a long clip takes.
_ITEMS_PER_BATCH = 16


def encode_clip(encoders: Encoders, clip: Clip) -> ClipFeatures:
    """Features of each track that the clip has; frames and windows are averaged and scaled to unit length."""
    return _encode(encoders, [clip.frames], [clip.waveform])[0]


def encode_segments(encoders: Encoders, clip: Clip) -> list[ClipFeatures]:
    """Features of each segment, as if it were a clip; frames and windows of several share a batch."""
    if not clip.segments:
        return []
    return _encode(
        encoders,
        [segment.frames for segment in clip.segments],
        [
            None if segment.sound is None or clip.sound is None else clip.sound[slice(*segment.sound)]
            for segment in clip.segments
        ],
    )


def _encode(
    encoders: Encoders, frames: list[NDArray[np.uint8] | None], waveforms: list[Array | None]
) -> list[ClipFeatures]:
    """Features of stretches of clips, from the frames and the waveform of each."""
    distinct = [_distinct(f) for f in frames]
    windows = (() if waveform is None else _windows(encoders, waveform) for waveform in waveforms)
    visual, audio = both(
        lambda: _batched(lambda batch: encoders.visual(frames=batch), (pictures for pictures, _ in distinct)),
        lambda: _batched(lambda batch: encoders.audio(waveform=batch), windows),
    )
    seen = {i: pool(np.repeat(rows, distinct[i][1], axis=0)) for i, rows in visual.items()}
    heard = {i: pool(rows) for i, rows in audio.items()}
    return [ClipFeatures(seen.get(i), heard.get(i)) for i in range(len(frames))]


def _distinct(frames: NDArray[np.uint8] | None) -> tuple[Sequence[NDArray[np.uint8]], list[int]]:
    """Frames without those that equal the one before, and how often each of them stands there.

    A short clip or one seen at its key frames repeats some, a slide show has still pictures: they are encoded
    once.
    """
    if frames is None:
        return (), []
    starts = [i for i in range(len(frames)) if i == 0 or not np.array_equal(frames[i], frames[i - 1])]
    return [frames[i] for i in starts], np.diff([*starts, len(frames)]).tolist()


def _windows(encoders: Encoders, waveform: Array) -> Array:
    tower = encoders.manifest.audio
    return audio_windows(waveform, window=tower.window_samples, hop=tower.hop_samples, padding=tower.padding)


def _batched(
    encode: Callable[[NDArray[np.generic]], Array], groups: Iterable[Iterable[NDArray[np.generic]]]
) -> dict[int, Array]:
    """Encode the items of all groups in batches.

    Args:
        encode: an encoder, items [batch, ...] to features [batch, dim].
        groups: items of one shape; taken one group after the other, as batches need them.

    Returns:
        The features [n, dim] of every group that has items, by the group's number.
    """
    items = ((number, item) for number, group in enumerate(groups) for item in group)
    features: dict[int, list[Array]] = {}
    while batch := list(islice(items, _ITEMS_PER_BATCH)):
        encoded = encode(np.stack([item for _, item in batch]))
        for (number, _), feature in zip(batch, encoded, strict=True):
            features.setdefault(number, []).append(feature)
    return {number: np.stack(rows) for number, rows in features.items()}
