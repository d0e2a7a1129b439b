"""The sound of a clip: read whole, or where it is long as windows that are spread evenly over it."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from av.audio.codeccontext import AudioCodecContext
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.packet import Packet

from service.arrays import Array
from service.decode.audio import Excerpt
from service.decode.container import Damage
from service.decode.packets import StreamPackets, midpoints
from service.decode.segments import Span
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
    resampling take twice as long, and are done for what is used only.

    Args:
        packets: All packets of the stream.
        spec: The sample rate, and how much is used.
        limits: Limits; no more than the maximum duration is decoded, whatever the timestamps say.
        damage: Counts packets that the decoder rejects and frames that can't be mixed or resampled.
    """

    def __init__(
        self, packets: StreamPackets[AudioStream], spec: DecodeSpec, limits: DecodeLimits, damage: Damage
    ) -> None:
        self._packets, self._spec, self._damage = packets, spec, damage
        self._context = packets.stream.codec_context
        self._context.thread_count = 1
        drop_custom_channel_order(self._context)
        self._limits = limits

    def read(self) -> Sound:
        """Read the sound.

        Where its windows are depends on its length, which is known for certain when it has been decoded. So a
        stream whose timestamps were wrong, or of which much was damaged, is read again.
        """
        expected_s = min(self._packets.length_s(), self._limits.max_duration_s)
        sound = self._read(expected_s)
        if abs(sound.length_s - expected_s) > EDGE_TOLERANCE_S and (
            self._is_long(sound.length_s) or sound.window_starts_s
        ):
            self._context.flush_buffers()
            sound = self._read(sound.length_s)
        return sound

    def _is_long(self, length_s: float) -> bool:
        return length_s > self._spec.longest_whole_s

    def _read(self, expected_s: float) -> Sound:
        spec, rate_hz = self._spec, self._spec.sample_rate_hz
        starts = _window_starts(spec, expected_s) if self._is_long(expected_s) else ()
        windows = [Excerpt(start, spec.window_samples, rate_hz, self._damage) for start in starts]
        n_whole = spec.full_samples(self._limits) or (0 if starts else spec.whole_samples)
        whole = [Excerpt(0.0, n_whole, rate_hz, self._damage)] if n_whole else []
        start_s, length_s = self._decode_into([*windows, *whole])
        samples = [one.samples() for one in whole]
        return Sound(
            waveform=_joined(windows, spec.window_samples) if starts else samples[0],
            window_starts_s=starts,
            full=None if spec.segment_s is None else samples[0],
            start_s=start_s,
            length_s=length_s,
        )

    def _decode_into(self, excerpts: Sequence[Excerpt]) -> tuple[float | None, float]:
        """Give all frames to all excerpts; where the first frame starts, and the length of all."""
        waiting, taking = deque(sorted(excerpts, key=lambda one: one.opens_s)), list[Excerpt]()
        start_s: float | None = None
        at_s = 0.0
        for frame in self._frames():
            if at_s == 0:
                start_s = frame.time
            ends_s = at_s + frame.samples / frame.sample_rate
            while waiting and waiting[0].opens_s < ends_s:
                taking.append(waiting.popleft())
            for excerpt in taking:
                with self._damage.kept_to("sound"):
                    excerpt.add(frame, at_s)
            taking = [one for one in taking if not one.is_full]
            at_s = ends_s
            if at_s >= self._limits.max_duration_s:
                break
        return start_s, min(at_s, self._limits.max_duration_s)

    def _frames(self) -> Iterator[AudioFrame]:
        for _, packet in self._packets.replay():
            yield from self._decode(packet)
        yield from self._decode(None)

    def _decode(self, packet: Packet[AudioStream] | None) -> list[AudioFrame]:
        """The frames of one packet, or what the decoder still buffers."""
        with self._damage.kept_to("sound"):
            return self._context.decode(packet)
        return []


def _window_starts(spec: DecodeSpec, length_s: float) -> tuple[float, ...]:
    """Starts of the windows, whose middles are those of equal parts of the sound."""
    window_s = spec.window_samples / spec.sample_rate_hz
    middles = midpoints(Span(0.0, length_s), spec.n_windows)
    starts = np.clip(middles - window_s / 2, 0.0, max(0.0, length_s - window_s))
    return tuple(starts.tolist())


def _joined(windows: Sequence[Excerpt], n_samples: int) -> Array:
    """The windows one after the other, filled up where the stream lacks some; nothing where it has none."""
    found = [window.samples() for window in windows]
    if not any(map(len, found)):
        return np.empty(0, np.float32)
    joined = np.zeros((len(found), n_samples), np.float32)
    for row, samples in zip(joined, found, strict=True):
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
