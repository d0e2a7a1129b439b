"""The sound of a clip: read whole, or where it is long as windows that are spread evenly over it."""

from __future__ import annotations

import math
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
        only_audible: Whether windows are taken from anywhere, but only where they are not silent, and not
            where they are spread evenly over the sound.
    """

    def __init__(
        self,
        stream: AudioStream,
        spec: DecodeSpec,
        limits: DecodeLimits,
        damage: Damage,
        expected_s: float,
        *,
        only_audible: bool = False,
    ) -> None:
        self._spec, self._limits, self._damage = spec, limits, damage
        self._context = stream.codec_context
        self._context.thread_count = 1
        drop_custom_channel_order(self._context)
        self._expected_s = min(expected_s, limits.max_duration_s)
        self._audible = _Audible(spec.n_windows) if only_audible else None
        self._starts_s: tuple[float, ...] = ()
        if only_audible:
            self._starts_s = _adjacent_starts_s(spec, self._expected_s)
        elif self._is_long(self._expected_s):
            self._starts_s = window_starts_s(spec, self._expected_s)
        rate_hz = spec.sample_rate_hz
        self._windows = [Excerpt(start, spec.window_samples, rate_hz, damage) for start in self._starts_s]
        # Of all the sound, for segments; of sound that is used whole; or nothing.
        n_whole = spec.full_samples(limits) or (0 if self._starts_s else spec.whole_samples)
        self._whole = Excerpt(0.0, n_whole, rate_hz, damage)
        self._waiting = deque([self._whole, *self._windows])
        self._taking: list[Excerpt] = []
        self._may_pause = stream.container.format.name in STORE_TIMES
        self._behind_pause: AudioFrame | None = None
        self._longest_pause_s = 0.0
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

    def sound(self, picture_end_s: float = -math.inf) -> Sound:
        """What is used. No packet may follow.

        Args:
            picture_end_s: When the picture ends, on the clock of the file, if there is one.
        """
        self._decode(None)
        if (last := self._behind_pause) is not None:
            self._pass_behind(self._pause_s(last) if self._is_likely(last, picture_end_s) else 0.0, last)
        whole = self._whole.samples()
        starts_s, windows = self._heard()
        return Sound(
            waveform=_joined(windows, self._spec.window_samples)
            if self._starts_s
            else whole[: self._spec.whole_samples],
            window_starts_s=starts_s,
            full=None if self._spec.segment_s is None else whole,
            start_s=self._start_s,
            length_s=self.length_s,
        )

    def _heard(self) -> tuple[tuple[float, ...], list[Array]]:
        """The windows and their starts."""
        if self._audible is None:
            return self._starts_s, [window.samples() for window in self._windows]
        for window in self._taking:  # the last, where the sound ends a little sooner than expected
            self._audible.add(window)
        return self._audible.chosen()

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

    def _is_likely(self, last: AudioFrame, picture_end_s: float) -> bool:
        """Whether there may be a pause before the last frame of all, whose time none after it confirms.

        There may where the picture goes on, or where as long a pause was before. Else one wrong time at the
        end would make a long clip of a short one, and nearly all of it silent.
        """
        is_usual = self._pause_s(last) <= self._longest_pause_s + EDGE_TOLERANCE_S
        return is_usual or (last.time or 0.0) <= picture_end_s + EDGE_TOLERANCE_S

    def _pause_s(self, frame: AudioFrame) -> float:
        """How long there is no sound before a frame, by its time."""
        if not self._may_pause or frame.time is None or self._start_s is None:
            return 0.0
        return frame.time - self._start_s - self._length_s

    def _pass_behind(self, pause_s: float, frame: AudioFrame) -> None:
        """Go on by a frame, and by the silence before it if that is long enough to be one."""
        if pause_s > EDGE_TOLERANCE_S:
            self._longest_pause_s = max(self._longest_pause_s, pause_s)
            self._pass(min(pause_s, self._limits.max_duration_s), None)
        self._pass(_length_s(frame), frame)

    def _pass(self, length_s: float, frame: AudioFrame | None) -> None:
        """Go on by the length of a frame, or of silence."""
        at_s = self._length_s
        self._length_s += length_s
        taking, self._taking = deque(self._taking), []
        # One after the other, since very many windows may lie within a pause.
        while taking or (self._waiting and self._waiting[0].opens_s < self._length_s):
            excerpt = (taking or self._waiting).popleft()
            with self._damage.kept_to("sound"):
                if frame is None:
                    excerpt.add_silence(at_s, length_s)
                else:
                    excerpt.add(frame, at_s)
            if not excerpt.is_full:
                self._taking.append(excerpt)
            elif self._audible is not None:
                self._audible.add(excerpt)


def _length_s(frame: AudioFrame) -> float:
    return frame.samples / frame.sample_rate


def window_starts_s(spec: DecodeSpec, length_s: float) -> tuple[float, ...]:
    """Starts of the windows, whose middles are those of equal parts of the sound."""
    window_s = spec.window_samples / spec.sample_rate_hz
    middles = midpoints(Span(0.0, length_s), spec.n_windows)
    starts = np.clip(middles - window_s / 2, 0.0, max(0.0, length_s - window_s))
    return tuple(starts.tolist())


def _adjacent_starts_s(spec: DecodeSpec, length_s: float) -> tuple[float, ...]:
    """Starts of windows that lie side by side and leave nothing of the sound out."""
    last = max(0, round(length_s * spec.sample_rate_hz) - spec.window_samples)
    starts = (*range(0, last, spec.window_samples), last)
    return tuple(start / spec.sample_rate_hz for start in starts)


class _Audible:
    """Keeps of many windows some that are not silent, spread evenly over all that are not.

    Only a few are held at once, since those of a long recording may be as large as all of its sound.

    Args:
        n_wanted: The most windows that are chosen in the end.
    """

    def __init__(self, n_wanted: int) -> None:
        self._n_wanted = n_wanted
        self._kept: list[tuple[float, Array]] = []
        self._n_audible = 0
        self._step = 1

    def add(self, window: Excerpt) -> None:
        """Take the next window, which needs no more frames."""
        samples = window.samples()
        if is_silent(samples):
            return
        if self._n_audible % self._step == 0:
            self._kept.append((window.start_s, samples))
        self._n_audible += 1
        if len(self._kept) > 2 * self._n_wanted:
            del self._kept[1::2]
            self._step *= 2

    def chosen(self) -> tuple[tuple[float, ...], list[Array]]:
        """As many windows as are wanted, or as there are, with their starts in seconds."""
        n_kept, n_chosen = len(self._kept), min(self._n_wanted, len(self._kept))
        # The middle of each of so many equal parts.
        chosen = [self._kept[(2 * part + 1) * n_kept // (2 * n_chosen)] for part in range(n_chosen)]
        return tuple(start_s for start_s, _ in chosen), [samples for _, samples in chosen]


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
