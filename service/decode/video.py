"""The wanted frames of a video stream as pictures: choose packets, decode them, convert frames."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from itertools import islice
from typing import Literal, TypeAlias, cast

import numpy as np
import numpy.typing as npt
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from service.decode.container import Damage, Source
from service.decode.packets import (
    PacketLog,
    Run,
    Timeline,
    midpoints,
    nearest_packets,
    packets_on_screen,
    plan_runs,
)
from service.decode.picture import Framer
from service.decode.segments import Span
from service.errors import AhseError, ClipTooLargeError
from service.media import DecodeLimits, DecodeSpec

# Decoders that can skip frames that no other frame refers to without changing any other frame.
_CAN_SKIP = frozenset({"h264", "mpeg2video"})
# Decoders that work around the faults of the encoder that made a clip, which it may name in the first packet.
_KNOW_ENCODERS = frozenset({"h264", "mpeg4"})
# Decoders of images, in which transparency is meant to be seen.
_IMAGE_DECODERS = frozenset({"apng", "png", "webp"})
# What a decoder may keep for each pixel of a frame: some twenty frames of 10 bits. And a stack.
_DECODER_BYTES_PER_PIXEL, _STACK_BYTES = 64, 8 * 1024**2

_Skip = Literal["NONREF", "DEFAULT"]
_Numbered: TypeAlias = "Iterator[tuple[int, Packet[VideoStream]]]"


class FrameReader:
    """Decodes runs of packets and converts the wanted frames to pictures.

    Attributes:
        pictures: Packet index to picture, uint8 [size, size, 3]: the wanted frames, and for each that could
            not be decoded the nearest one.
        n_decoded: Frames that the decoder returned.
        n_pixels: Their pixels.
    """

    def __init__(
        self,
        stream: VideoStream,
        log: PacketLog,
        timeline: Timeline,
        framer: Framer,
        limits: DecodeLimits,
        damage: Damage,
    ) -> None:
        self.pictures: dict[int, npt.NDArray[np.uint8]] = {}
        self.n_decoded = 0
        self.n_pixels = 0
        self._damage = damage
        self._log = log
        self._times_s = timeline.times_s
        self._rank = np.argsort(np.argsort(timeline.times_s, kind="stable"), kind="stable")
        self._framer = framer
        self._max_pixels = limits.max_decoded_pixels
        self._stream = stream
        self._context = stream.codec_context
        # Each frame carries the index of its packet, since timestamps may be missing or repeated.
        self._context.copy_opaque = True
        self._context.thread_count = 1
        self._context.options = {"max_pixels": str(limits.max_frame_pixels)}
        self._reorder_depth = self._context.reorder_depth

    def read(self, runs: Iterable[Run], *, skip_unneeded: bool = True) -> None:
        """Decode runs, in ascending order.

        Args:
            runs: The packets to decode and the frames to keep.
            skip_unneeded: Whether to skip frames that are neither wanted nor references for others.

        Raises:
            ClipTooLargeError: The decoded frames exceed the limit on pixels.
        """
        skip: _Skip = "NONREF" if skip_unneeded and self._context.name in _CAN_SKIP else "DEFAULT"
        packets = self._log.replay()
        for number, run in enumerate(runs):
            if number == 0 and run.start > 0:
                self._introduce(packets)
            self._context.flush_buffers()
            # A flush may reset the reorder depth, without which the decoder drops frames that arrive late.
            self._context.reorder_depth = max(self._reorder_depth, self._context.reorder_depth)
            self._keep(run, self._frames(run, packets, skip))

    def _introduce(self, packets: _Numbered) -> None:
        """Let the decoder learn of the encoder from the first packet, without decoding its frame."""
        if self._context.name in _KNOW_ENCODERS:
            for _, packet in islice(packets, 1):
                self._context.skip_frame = "ALL"
                with Damage().kept_to("picture"):  # no frame of it is wanted
                    self._context.decode(packet)

    def misses(self, wanted: Sequence[int]) -> bool:
        """Whether a wanted packet, and those shown right before and after it, all yielded no picture.

        The neighbours count because some packets yield no frame of their own: hidden reference frames, and
        the second field of an interlaced frame.
        """
        found = {int(self._rank[packet]) for packet in self.pictures}
        return any(found.isdisjoint(range(rank - 1, rank + 2)) for rank in self._rank[list(wanted)].tolist())

    def _frames(self, run: Run, packets: _Numbered, skip: _Skip) -> Iterator[VideoFrame]:
        """All frames that the decoder returns for one run."""
        wanted = frozenset(run.wanted)
        for number, packet in packets:
            if number >= run.start:
                self._context.skip_frame = "DEFAULT" if number in wanted else skip
                # A new object each time: PyAV stores these by identity and drops one that is shared.
                packet.opaque = (number,)
                yield from self._decode(packet)
            if number + 1 >= run.stop:
                break
        yield from self._decode(None)

    def _decode(self, packet: Packet[VideoStream] | None) -> list[VideoFrame]:
        with self._damage.kept_to("picture"):
            return self._context.decode(packet)
        return []

    def _keep(self, run: Run, frames: Iterable[VideoFrame]) -> None:
        """Convert the wanted frames of a run, and for each that is missing the nearest frame.

        Which frames are missing is known at the end only, so the nearest one so far is kept for each wanted
        frame until that arrives.
        """
        wanted_s = self._times_s[list(run.wanted)]
        # Distance from each wanted frame to the nearest one so far; -1 once the frame itself has arrived.
        distances_s = np.full(len(run.wanted), np.inf)
        nearest: dict[int, tuple[int, VideoFrame]] = {}
        places = {number: place for place, number in enumerate(run.wanted)}
        for frame in frames:
            self._count(frame)
            if frame.opaque is None:  # invented by the decoder to fill a gap
                continue
            (number,) = cast("tuple[int]", frame.opaque)
            if number in places:
                place = places.pop(number)
                if not self._convert(number, frame):
                    continue
                distances_s[place] = -1
                nearest.pop(place, None)  # frames are large, so none is kept longer than needed
            from_here_s = np.abs(wanted_s - self._times_s[number])
            nearer = np.flatnonzero(from_here_s < distances_s)
            distances_s[nearer] = from_here_s[nearer]
            nearest |= dict.fromkeys(nearer.tolist(), (number, frame))
        for number, frame in dict(nearest.values()).items():
            self._convert(number, frame)

    def _pixel_aspect(self) -> float:
        """That of the header, or else what a frame that is decoded now has told."""
        return float(self._stream.sample_aspect_ratio or self._context.sample_aspect_ratio or 1)

    def _convert(self, number: int, frame: VideoFrame) -> bool:
        """Convert a frame to the picture of its packet, if it can be."""
        with self._damage.kept_to("picture"):
            self.pictures[number] = self._framer.picture(frame, self._pixel_aspect())
            return True
        return False

    def _count(self, frame: VideoFrame) -> None:
        self.n_decoded += 1
        self.n_pixels += frame.width * frame.height
        if self.n_pixels > self._max_pixels:
            raise ClipTooLargeError(
                "Decoding this clip takes too many pixels. Send a shorter or smaller one."
            )


_AT_KEY_FRAMES = "The clip is large: frames were taken at its key frames, not at evenly spaced times."
_SEGMENTS_AT_KEY_FRAMES = (
    "The clip is large: the frames of its segments were taken at key frames, which may be outside of a short "
    "segment."
)
_DAMAGED = "Parts of the picture are damaged: the nearest readable frames were used."


@dataclass(frozen=True, eq=False)
class VideoFrames:
    """The pictures of a clip and of its segments.

    Attributes:
        pictures: uint8 [n_frames, size, size, 3], RGB; None when nothing could be decoded.
        times_s: float64 [n_frames], seconds since the first frame.
        parts: uint8 [n_parts, n_segment_frames, size, size, 3], RGB; None when nothing could be decoded.
        part_times_s: float64 [n_parts, n_segment_frames], seconds since the first frame.
        n_decoded: Frames that the decoder returned.
        warnings: Sentences for the user about what was left out or repaired.
    """

    pictures: npt.NDArray[np.uint8] | None
    times_s: npt.NDArray[np.float64]
    parts: npt.NDArray[np.uint8] | None
    part_times_s: npt.NDArray[np.float64]
    n_decoded: int
    warnings: tuple[str, ...]


def read_frames(
    source: Source,
    log: PacketLog,
    timeline: Timeline,
    spec: DecodeSpec,
    limits: DecodeLimits,
    damage: Damage,
    parts: Sequence[Span] = (),
    n_threads: int = 1,
) -> VideoFrames:
    """Decode the frames that a model needs from a clip and from parts of it, in one pass.

    The frames of the clip as a whole do not depend on the parts, and none on the number of threads.

    Args:
        source: The file; nothing of its video stream may have been decoded.
        log: All packets of that stream, at least one.
        timeline: The table of these packets.
        spec: Number, sampling and size of the frames.
        limits: Limits on pixels.
        damage: Counts packets that the decoder rejects and frames that can't be converted.
        parts: Spans with frames of their own, in seconds since the first frame.
        n_threads: That may decode at once.

    Raises:
        ClipTooLargeError: The wanted frames exceed a limit on pixels even if taken at key frames.
    """
    stream = cast("VideoStream", source.video_stream)
    n_pixels = max(1, stream.width * stream.height)
    budget = limits.max_decoded_pixels // n_pixels
    wanted, warnings = _choose(timeline, spec, budget, parts)
    runs = plan_runs(timeline, wanted)

    def reader_of(stream: VideoStream, damage: Damage) -> FrameReader:
        on_white = stream.codec_context.name in _IMAGE_DECODERS
        framer = Framer(spec.image_size_px, spec.resize, limits.max_frame_pixels, on_white=on_white)
        return FrameReader(stream, log, timeline, framer, limits, damage)

    in_memory = limits.memory_bytes // (_DECODER_BYTES_PER_PIXEL * n_pixels + _STACK_BYTES)
    n_readers = min(n_threads, len(runs), in_memory) if log.is_kept else 1
    reader = _read_at_once(source, runs, n_readers, limits, reader_of) if n_readers > 1 else None
    if reader is None:
        reader = reader_of(stream, damage)
        reader.read(runs)
        whole = Run(0, tuple(sorted(set(wanted))))
        if reader.misses(wanted) and reader.n_decoded + whole.n_packets <= budget:
            # Key frame flags or timestamps were wrong, or the file is damaged: decode all from the start.
            reader.read([whole], skip_unneeded=False)
    return _collect(reader, timeline, wanted, warnings, spec, damage)


def _read_at_once(
    source: Source,
    runs: Sequence[Run],
    n_readers: int,
    limits: DecodeLimits,
    reader_of: Callable[[VideoStream, Damage], FrameReader],
) -> FrameReader | None:
    """Decode runs in several threads, each with a decoder of its own.

    Returns:
        One reader with the frames of all. None if anything was amiss: what a decoder makes of damage may
        depend on the runs that it has seen before, so a single one has to read them, in their order.
    """
    damage, stream = Damage(), cast("VideoStream", source.video_stream)
    left = deque(runs)
    with ExitStack() as opened, ThreadPoolExecutor(n_readers) as threads:
        readers, reading = list[FrameReader](), []
        try:
            # To open a file may take longer than the others take for all runs that are left.
            while left and len(readers) < n_readers:
                same, _ = opened.enter_context(source.again(stream))
                readers.append(reader_of(same, damage))
                reading.append(threads.submit(readers[-1].read, _taken(left)))
            for one in reading:
                one.result()
        except (AhseError, MemoryError, RuntimeError):  # the last where no thread can be started
            return None
    first, *others = readers
    for reader in others:
        first.pictures |= reader.pictures
        first.n_decoded += reader.n_decoded
        first.n_pixels += reader.n_pixels
    wanted = {number for run in runs for number in run.wanted}
    is_whole = wanted == first.pictures.keys() and first.n_pixels <= limits.max_decoded_pixels
    return first if is_whole and not damage.counts else None


def _taken(left: deque[Run]) -> Iterator[Run]:
    """The next run, whenever a thread is through with one."""
    with suppress(IndexError):
        while True:
            yield left.popleft()


def _choose(
    timeline: Timeline, spec: DecodeSpec, budget: int, parts: Sequence[Span]
) -> tuple[list[int], list[str]]:
    """The wanted packets, those of the whole clip first, and warnings about them."""
    whole = midpoints(Span(0.0, timeline.duration_s), spec.n_frames)
    if spec.frames == "key" and _keys(timeline).any():
        times = [whole, *(midpoints(part, spec.n_segment_frames) for part in parts)]
        return nearest_packets(timeline, np.concatenate(times), _keys(timeline)), []
    wanted, exact = _affordable(timeline, whole, [], budget)
    warnings = [] if exact else [_AT_KEY_FRAMES]
    if parts:
        targets = np.concatenate([midpoints(part, spec.n_segment_frames) for part in parts])
        more, exact = _affordable(timeline, targets, wanted, budget)
        wanted, warnings = wanted + more, warnings if exact else [*warnings, _SEGMENTS_AT_KEY_FRAMES]
    return wanted, warnings


def _affordable(
    timeline: Timeline, targets: npt.NDArray[np.float64], chosen: list[int], budget: int
) -> tuple[list[int], bool]:
    """The packets for target times, and whether they are exact.

    They are the nearest key frames if decoding the exact ones, in addition to those already chosen, would
    exceed the budget.
    """
    wanted = packets_on_screen(timeline, targets)
    if _cost(timeline, chosen + wanted) <= budget:
        return wanted, True
    if _keys(timeline).any():
        wanted = nearest_packets(timeline, targets, _keys(timeline))
        if _cost(timeline, chosen + wanted) <= budget:
            return wanted, False
    remedy = "Ask for longer segments, or send" if chosen else "Send"
    raise ClipTooLargeError(f"Decoding this clip takes too many pixels. {remedy} a shorter or smaller one.")


def _keys(timeline: Timeline) -> npt.NDArray[np.bool_]:
    return timeline.is_key & timeline.is_shown


def _cost(timeline: Timeline, wanted: Sequence[int]) -> int:
    return sum(run.n_packets for run in plan_runs(timeline, wanted))


def _collect(
    reader: FrameReader,
    timeline: Timeline,
    wanted: Sequence[int],
    warnings: list[str],
    spec: DecodeSpec,
    damage: Damage,
) -> VideoFrames:
    """Put the pictures in the order of the wanted packets; a missing one is replaced by the nearest."""
    if not reader.pictures:
        return VideoFrames(None, np.empty(0), None, np.empty((0, 0)), reader.n_decoded, tuple(warnings))
    readable = np.zeros(len(timeline.times_s), dtype=np.bool_)
    readable[list(reader.pictures)] = True
    chosen = nearest_packets(timeline, timeline.times_s[list(wanted)], readable)
    if damage.counts["picture"] or reader.misses(wanted):
        warnings = [*warnings, _DAMAGED]
    pictures = np.stack([reader.pictures[packet] for packet in chosen])
    whole, parts = np.split(pictures, [spec.n_frames])
    times_s, part_times_s = np.split(timeline.times_s[chosen], [spec.n_frames])
    return VideoFrames(
        pictures=whole,
        times_s=times_s,
        parts=parts.reshape(-1, spec.n_segment_frames, *parts.shape[1:]),
        part_times_s=part_times_s.reshape(-1, spec.n_segment_frames),
        n_decoded=reader.n_decoded,
        warnings=tuple(warnings),
    )
