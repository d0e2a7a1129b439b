"""The sound of a clip: read whole, or where it is long as windows that are spread evenly over it."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from av.audio.codeccontext import AudioCodecContext
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.packet import Packet

from service.arrays import Array
from service.decode.audio import Excerpt
from service.decode.container import Damage
from service.decode.formats import STORE_TIMES
from service.decode.packets import midpoints
from service.decode.segments import Span, is_silent
from service.media import EDGE_TOLERANCE_S, DecodeLimits, DecodeSpec


@dataclass(frozen=True, eq=False)
class Sound:
    """What is used of an audio stream.

    Attributes:
        waveform: float32 [n_samples], mono, -1..1: all of it, or its windows one after the other.
        window_starts_s: Of each window, since the first sample; empty where all of it is used.
        full: float32 [n_samples], all of it, for segments; None when none were requested.
        start_s: Of the first sample, on the clock of the file; None if its frames have no timestamps.
        length_s: Length of all of it.
    """

    waveform: Array
    window_starts_s: tuple[float, ...]
    full: Array | None
    start_s: float | None
    length_s: float

    def span(self, default_start_s: float) -> Span:
        """Start and end on the clock of the file.

        Args:
            default_start_s: Start to assume if the frames have no timestamps.
        """
        start_s = default_start_s if self.start_s is None else self.start_s
        return Span(start_s, start_s + self.length_s)


class SoundReader:
    """Decodes the packets of an audio stream, and mixes and resamples what is used of them.

    Every packet is decoded, in order: what a decoder makes of one depends on those before. Mixing and
    resampling take twice as long, and are done for what is used only. Where timestamps leave a gap, silence
    is heard, so that all after it is heard in time.

    Args:
        stream: The stream; nothing of it may have been decoded.
        spec: The sample rate, and how much is used.
        limits: Limits; no more than the maximum duration is decoded, whatever the timestamps say.
        damage: Counts packets that the decoder rejects and frames that can't be mixed or resampled.
        expected_s: Length of the sound, on which it depends where its windows are.
    """

    def __init__(
        self, stream: AudioStream, spec: DecodeSpec, limits: DecodeLimits, damage: Damage, expected_s: float
    ) -> None:
        self._spec, self._limits, self._damage = spec, limits, damage
        self._context = stream.codec_context
        self._context.thread_count = 1
        drop_custom_channel_order(self._context)
        self._expected_s = min(expected_s, limits.max_duration_s)
        self._starts_s = window_starts_s(spec, self._expected_s) if self._is_long(self._expected_s) else ()
        rate_hz = spec.sample_rate_hz
        self._windows = [Excerpt(start, spec.window_samples, rate_hz, damage) for start in self._starts_s]
        # Of all the sound, for segments; of sound that is used whole; or nothing.
        n_whole = spec.full_samples(limits) or (0 if self._starts_s else spec.whole_samples)
        self._whole = Excerpt(0.0, n_whole, rate_hz, damage)
        self._waiting = deque([self._whole, *self._windows])
        self._taking: list[Excerpt] = []
        self._may_pause = stream.container.format.name in STORE_TIMES
        self._behind_pause: AudioFrame | None = None
        self._start_s: float | None = None
        self._length_s = 0.0

    @property
    def was_misled(self) -> bool:
        """Whether windows are not where they should be, since the sound has another length than expected."""
        is_off = abs(self.length_s - self._expected_s) > EDGE_TOLERANCE_S
        return is_off and (self._is_long(self.length_s) or len(self._starts_s) > 0)

    @property
    def length_s(self) -> float:
        """Length of the sound; call this after `sound`."""
        return min(self._length_s, self._limits.max_duration_s)

    def add(self, packet: Packet[AudioStream]) -> None:
        """Decode one packet."""
        if self._length_s < self._limits.max_duration_s:
            self._decode(packet)

    def sound(self) -> Sound:
        """What is used. No packet may follow."""
        self._decode(None)
        if (last := self._behind_pause) is not None:
            # Nothing says that its time is wrong, and those of a file are mostly right.
            self._pass_behind(self._pause_s(last), last)
        whole = self._whole.samples()
        return Sound(
            waveform=_joined([window.samples() for window in self._windows], self._spec.window_samples)
            if self._windows
            else whole[: self._spec.whole_samples],
            window_starts_s=self._starts_s,
            full=None if self._spec.segment_s is None else whole,
            start_s=self._start_s,
            length_s=self.length_s,
        )

    def _is_long(self, length_s: float) -> bool:
        return length_s > self._spec.longest_whole_s

    def _decode(self, packet: Packet[AudioStream] | None) -> None:
        """Decode one packet, or what the decoder still buffers."""
        with self._damage.kept_to("sound"):
            for frame in self._context.decode(packet):
                self._take(frame)

    def _take(self, frame: AudioFrame) -> None:
        if self._length_s == 0:
            self._start_s = frame.time
        if (first := self._behind_pause) is not None:
            self._pass_behind(min(self._pause_s(first), self._pause_s(frame) - _length_s(first)), first)
            self._behind_pause = None
        if self._pause_s(frame) > EDGE_TOLERANCE_S:
            self._behind_pause = frame  # until the next one confirms its time
        else:
            self._pass(_length_s(frame), frame)

    def _pause_s(self, frame: AudioFrame) -> float:
        """How long there is no sound before a frame, by its time."""
        if not self._may_pause or frame.time is None or self._start_s is None:
            return 0.0
        return frame.time - self._start_s - self._length_s

    def _pass_behind(self, pause_s: float, frame: AudioFrame) -> None:
        """Go on by a frame, and by the silence before it if that is long enough to be one."""
        if pause_s > EDGE_TOLERANCE_S:
            self._pass(min(pause_s, self._limits.max_duration_s), None)
        self._pass(_length_s(frame), frame)

    def _pass(self, length_s: float, frame: AudioFrame | None) -> None:
        """Go on by the length of a frame, or of silence."""
        at_s = self._length_s
        self._length_s += length_s
        while self._waiting and self._waiting[0].opens_s < self._length_s:
            self._taking.append(self._waiting.popleft())
        for excerpt in self._taking:
            with self._damage.kept_to("sound"):
                if frame is None:
                    excerpt.add_silence(at_s, length_s)
                else:
                    excerpt.add(frame, at_s)
        if any(one.is_full for one in self._taking):
            self._taking = [one for one in self._taking if not one.is_full]


def _length_s(frame: AudioFrame) -> float:
    return frame.samples / frame.sample_rate


def window_starts_s(spec: DecodeSpec, length_s: float) -> tuple[float, ...]:
    """Starts of the windows, whose middles are those of equal parts of the sound."""
    window_s = spec.window_samples / spec.sample_rate_hz
    middles = midpoints(Span(0.0, length_s), spec.n_windows)
    starts = np.clip(middles - window_s / 2, 0.0, max(0.0, length_s - window_s))
    return tuple(starts.tolist())


def audible_windows(full: Array, spec: DecodeSpec) -> tuple[Array, tuple[float, ...]]:
    """Of the windows of sound that lie side by side those that are not silent, spread evenly over these.

    Args:
        full: All of the sound, float32 [n_samples], not silent.
        spec: How long windows are, and how many at most.

    Returns:
        The windows one after the other, float32 [n_samples], and their starts in seconds.
    """
    n_samples, last = spec.window_samples, max(0, len(full) - spec.window_samples)
    pieces = [(start, full[start : start + n_samples]) for start in (*range(0, last, n_samples), last)]
    audible = [(start, piece) for start, piece in pieces if not is_silent(piece)]
    places = midpoints(Span(0.0, len(audible)), min(spec.n_windows, len(audible)))
    chosen = [audible[int(place)] for place in places]
    starts_s = tuple(start / spec.sample_rate_hz for start, _ in chosen)
    return _joined([piece for _, piece in chosen], n_samples), starts_s


def _joined(windows: Sequence[Array], n_samples: int) -> Array:
    """The windows one after the other, filled up where the stream lacks some; nothing where it has none."""
    if not any(map(len, windows)):
        return np.empty(0, np.float32)
    joined = np.zeros((len(windows), n_samples), np.float32)
    for row, samples in zip(joined, windows, strict=True):
        row[: len(samples)] = samples
    return joined.reshape(-1)


def drop_custom_channel_order(context: AudioCodecContext) -> None:
    """Replace a custom channel order by unnamed channels; their mean does not depend on names.

    FFmpeg keeps a custom order in a list. PyAV 18 frees that list with the frame and again with the layout of
    the frame, which crashes the process. Call this before the first frame is decoded.
    """
    layout = context.layout  # read once only: each such object frees the list when it is deleted
    if " channels (" in layout.name:
        context.layout = f"{layout.nb_channels} channels"
