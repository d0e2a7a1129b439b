"""Encode a decoded clip and its segments: frames and audio windows to one feature vector per track."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from service.bundle.bundle import Bundle
from service.encode.both import both
from service.encode.features import ClipFeatures, pool
from service.encode.windows import audio_windows
from service.media import Clip

# Frames or windows that run through a graph at once: bounds the memory that a long clip takes.
_ITEMS_PER_BATCH = 16

Array = NDArray[np.float32]


def encode_clip(bundle: Bundle, clip: Clip) -> ClipFeatures:
    """Features of each track that the clip has; frames and windows are averaged and scaled to unit length."""
    return _encode(bundle, [clip.frames], [clip.waveform])[0]


def encode_segments(bundle: Bundle, clip: Clip) -> list[ClipFeatures]:
    """Features of each segment, as if it were a clip; frames and windows of several share a batch."""
    if not clip.segments:
        return []
    return _encode(
        bundle,
        [segment.frames for segment in clip.segments],
        [
            None if segment.sound is None or clip.sound is None else clip.sound[slice(*segment.sound)]
            for segment in clip.segments
        ],
    )


def _encode(
    bundle: Bundle, frames: list[NDArray[np.uint8] | None], waveforms: list[Array | None]
) -> list[ClipFeatures]:
    """Features of stretches of clips, from the frames and the waveform of each."""
    distinct = [_distinct(f) for f in frames]
    windows = (() if waveform is None else _windows(bundle, waveform) for waveform in waveforms)
    visual, audio = both(
        lambda: _batched(lambda batch: bundle.visual(frames=batch), (pictures for pictures, _ in distinct)),
        lambda: _batched(lambda batch: bundle.audio(waveform=batch), windows),
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


def _windows(bundle: Bundle, waveform: Array) -> Array:
    tower = bundle.manifest.audio
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
