"""Encode a decoded clip and its segments: frames and audio windows become one feature vector per track."""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice, takewhile
from typing import Self

import numpy as np
from numpy.typing import NDArray

from service.arrays import Array
from service.bundle.manifest import AudioEncoderSpec, Padding
from service.encode.encoders import Encoders, run_in_parallel
from service.encode.features import ClipFeatures, pool
from service.media import Clip, ClipSound

# A remainder of less than this share of a window gets no window of its own. Codecs pad audio to whole frames,
# so a clip of exactly one window is some milliseconds longer and would otherwise cost two.
_MIN_REMAINDER = 0.01


def audio_windows(waveform: Array, *, window: int, hop: int, padding: Padding) -> list[Array]:
    """Windows at 0, hop, 2 hop ... and, if more than 1 % of a window is left, one that ends with the clip.

    The last window overlaps the one before instead of being padded: for a clip a little longer than one
    window, padding would otherwise make up half of what is encoded.

    Args:
        waveform: Audio, float32 [n_samples], n_samples >= 1.
        window: Samples per window.
        hop: Samples from the start of one window to the start of the next.
        padding: How to fill the window of a waveform that is shorter, see `AudioEncoderSpec.padding`.

    Returns:
        At least one, float32 [window] each. They are views: all of a long clip would take its memory again.
    """
    n_samples = len(waveform)
    if n_samples < window:
        return [_filled(waveform, window, padding)]
    return [waveform[start : start + window] for start in window_starts(n_samples, window, hop)]


def window_starts(n_samples: int, window: int, hop: int) -> list[int]:
    """First samples of the windows of a waveform, at least one; see `audio_windows`."""
    starts = list(range(0, max(n_samples - window, 0) + 1, hop))
    if starts[-1] + window + _MIN_REMAINDER * window < n_samples:
        starts.append(n_samples - window)
    return starts


def window_times(spec: AudioEncoderSpec, first: int, stop: int) -> tuple[tuple[float, float], ...]:
    """Start and end of the windows of a part of a waveform; of a window that is filled up, its own.

    Args:
        spec: Length of the windows.
        first: First sample of the part.
        stop: Sample after its last.

    Returns:
        Seconds since the start of the waveform.
    """
    window, rate_hz = min(spec.window_samples, stop - first), spec.sample_rate_hz
    starts = window_starts(stop - first, spec.window_samples, spec.hop_samples)
    return tuple(((first + start) / rate_hz, (first + start + window) / rate_hz) for start in starts)


def _filled(waveform: Array, window: int, padding: Padding) -> Array:
    if padding == "repeat":
        return np.resize(waveform, window)
    n_times = window // len(waveform) if padding == "repeat_whole" else 1
    repeated = np.tile(waveform, n_times)
    return np.pad(repeated, (0, window - len(repeated)))


# Frames or windows in one run of a graph, which bounds the memory for a long clip.
_ITEMS_PER_BATCH = 16


class EncodingAhead:
    """Encodes the sound of one clip in another thread, which can begin while its frames are still decoded.

    A context manager: it ends when the thread has, since that may not outlive the request. Where the clip has
    failed by then, only the batch that runs is encoded.

    Args:
        encoders: The encoders.
    """

    def __init__(self, encoders: Encoders) -> None:
        self._encoders = encoders
        self._beside = ThreadPoolExecutor(1, thread_name_prefix="encode")
        self._wanted: ClipSound | None = None
        self._audio: Future[Array | None] | None = None

    def begin(self, sound: ClipSound) -> None:
        """Begin with the sound, in place of any before; it can be cancelled as this context can."""
        self._wanted = sound
        self._audio = self._beside.submit(contextvars.copy_context().run, self._encode_sound, sound)

    def features(self, clip: Clip) -> ClipFeatures:
        """Features of each track: the mean over its frames or windows, scaled to unit length.

        Args:
            clip: The clip, with the sound that was begun last.
        """
        visual = _encode_frames(self._encoders, [clip.frames]).get(0)
        if self._audio is None or clip.waveform is None:
            return ClipFeatures(visual, None)
        return ClipFeatures(visual, self._audio.result())

    def _encode_sound(self, sound: ClipSound) -> Array | None:
        if sound.waveform is None:
            return None
        windows = _windows(self._encoders, sound.waveform, sound.window_starts_s)
        still_wanted = takewhile(lambda _: self._wanted is sound, windows)
        return _encode_windows(self._encoders, [still_wanted]).get(0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._wanted = None
        self._beside.shutdown()


def encode_clip(encoders: Encoders, clip: Clip) -> ClipFeatures:
    """Features of a decoded clip; see `EncodingAhead.features`."""
    with EncodingAhead(encoders) as ahead:
        ahead.begin(ClipSound(clip.waveform, window_starts_s=clip.window_starts_s))
        return ahead.features(clip)


def encode_segments(encoders: Encoders, clip: Clip) -> list[ClipFeatures]:
    """Features of each segment, encoded like a clip; frames and windows of several segments share batches."""
    if not clip.segments:
        return []
    windows = (
        ()
        if segment.audio_samples is None or clip.full_waveform is None
        else _windows(encoders, clip.full_waveform[slice(*segment.audio_samples)])
        for segment in clip.segments
    )
    visual, audio = run_in_parallel(
        lambda: _encode_frames(encoders, [segment.frames for segment in clip.segments]),
        lambda: _encode_windows(encoders, windows),
    )
    return [ClipFeatures(visual.get(i), audio.get(i)) for i in range(len(clip.segments))]


def _encode_frames(encoders: Encoders, frames: Sequence[NDArray[np.uint8] | None]) -> dict[int, Array]:
    """Features of the visual tracks of several clips or segments, by their index, for those that have one."""
    distinct = [_distinct(f) for f in frames]
    encoded = _batched(lambda batch: encoders.visual(frames=batch), (pictures for pictures, _ in distinct))
    # Each distinct frame counts in the mean as often as it occurs in the clip.
    return {i: pool(np.repeat(rows, distinct[i][1], axis=0)) for i, rows in encoded.items()}


def _encode_windows(encoders: Encoders, windows: Iterable[Iterable[Array]]) -> dict[int, Array]:
    """The same of audio tracks, from the windows of each, float32 [window samples]."""
    encoded = _batched(lambda batch: encoders.audio(waveform=batch), windows)
    return {i: pool(rows) for i, rows in encoded.items()}


def _distinct(frames: NDArray[np.uint8] | None) -> tuple[Sequence[NDArray[np.uint8]], list[int]]:
    """The frames without consecutive repetitions, and how often each one was repeated.

    Frames repeat in short clips, in clips sampled at key frames and in slide shows; each is encoded once.
    """
    if frames is None:
        return (), []
    starts = [i for i in range(len(frames)) if i == 0 or not np.array_equal(frames[i], frames[i - 1])]
    return [frames[i] for i in starts], np.diff([*starts, len(frames)]).tolist()


def _windows(encoders: Encoders, waveform: Array, starts_s: Sequence[float] = ()) -> Sequence[Array]:
    """The windows of a waveform, which are all that it consists of where their starts are given."""
    spec = encoders.manifest.audio
    if starts_s:
        return list(waveform.reshape(-1, spec.window_samples))
    return audio_windows(waveform, window=spec.window_samples, hop=spec.hop_samples, padding=spec.padding)


def _batched(
    encode: Callable[[NDArray[np.generic]], Array], groups: Iterable[Iterable[NDArray[np.generic]]]
) -> dict[int, Array]:
    """Encode the items of all groups in batches.

    Args:
        encode: An encoder, items [batch, ...] to features [batch, dim].
        groups: Items of one shape, one group per clip or segment. They are consumed lazily, one after
            the other, so that the windows of all segments are never in memory together.

    Returns:
        The features [n, dim] of every group that has items, by the index of the group.
    """
    items = ((number, item) for number, group in enumerate(groups) for item in group)
    features: dict[int, list[Array]] = {}
    while batch := list(islice(items, _ITEMS_PER_BATCH)):
        encoded = encode(np.stack([item for _, item in batch]))
        for (number, _), feature in zip(batch, encoded, strict=True):
            features.setdefault(number, []).append(feature)
    return {number: np.stack(rows) for number, rows in features.items()}
