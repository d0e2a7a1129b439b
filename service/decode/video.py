"""The wanted frames of a video stream as pictures: choose packets, and who decodes them."""

from __future__ import annotations

import gc
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import numpy.typing as npt
from av.video.stream import VideoStream

from service.decode.container import Damage, Source
from service.decode.formats import FORGET_GROUPS, HAVE_HEADERS, SHOW_TRANSPARENCY
from service.decode.frame_reader import FrameReader
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

# At once: a decoding process may have 32 open files.
_MOST_READERS = 16
# What a decoder may keep for each pixel of a frame: some twenty frames of 10 bits. And a stack.
_DECODER_BYTES_PER_PIXEL, _STACK_BYTES = 64, 8 * 1024**2


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
        at_key_frames: Whether the pictures of the clip are key frames, not those at the sampled times.
    """

    pictures: npt.NDArray[np.uint8] | None
    times_s: npt.NDArray[np.float64]
    parts: npt.NDArray[np.uint8] | None
    part_times_s: npt.NDArray[np.float64]
    n_decoded: int
    warnings: tuple[str, ...]
    at_key_frames: bool = False


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

    The frames of the clip as a whole do not depend on the parts, and none on the number of threads, unless
    parameters of the codec change in a packet of MP4 or MKV and are not repeated at key frames.

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
    budget = limits.max_decoded_pixels // _n_pixels(stream)
    wanted, warnings, at_key_frames = _choose(timeline, spec, budget, parts)
    runs = plan_runs(timeline, wanted)
    # All pictures once, where they stay: those of many segments take most of the memory of a process.
    pictures = np.empty((len(wanted), spec.image_size_px, spec.image_size_px, 3), np.uint8)
    places = dict(zip(wanted[::-1], pictures[::-1], strict=True))  # of each packet the first

    def reader_of(stream: VideoStream, limits: DecodeLimits, damage: Damage) -> FrameReader:
        on_white = stream.codec_context.name in SHOW_TRANSPARENCY
        framer = Framer(spec.image_size_px, spec.resize, limits.max_frame_pixels, on_white=on_white)
        return FrameReader(stream, log, timeline, framer, limits, damage, places)

    n_readers = min(n_threads, len(runs), _most_readers(source, log, limits))
    reader = None
    if n_readers > 1 and (reader := _read_at_once(source, runs, n_readers, limits, reader_of)) is None:
        gc.collect()  # the decoders of those that have failed refer to themselves
    if reader is None:
        reader = reader_of(stream, limits, damage)
        reader.read(runs)
        whole = Run(0, tuple(sorted(set(wanted))))
        if reader.misses(wanted) and reader.n_decoded + whole.n_packets <= budget:
            # Key frame flags or timestamps were wrong, or the file is damaged: decode all from the start.
            reader.read([whole], skip_unneeded=False)
    found = _collect(reader, timeline, wanted, pictures, warnings, spec, damage)
    return replace(found, at_key_frames=at_key_frames)


def _most_readers(source: Source, log: PacketLog, limits: DecodeLimits) -> int:
    """How many decoders can read runs of a stream at once, with the same result as one alone."""
    stream = cast("VideoStream", source.video_stream)
    if stream.codec_context.name not in FORGET_GROUPS or source.container.format.name not in HAVE_HEADERS:
        return 1
    if not log.can_be_shared:
        return 1
    decoder_bytes = _DECODER_BYTES_PER_PIXEL * _n_pixels(stream) + _STACK_BYTES
    return min(_MOST_READERS, limits.memory_bytes // decoder_bytes)


def _read_at_once(
    source: Source,
    runs: Sequence[Run],
    n_readers: int,
    limits: DecodeLimits,
    reader_of: Callable[[VideoStream, DecodeLimits, Damage], FrameReader],
) -> FrameReader | None:
    """Decode runs in several threads, each with a decoder of its own.

    Returns:
        One reader with the frames of all. None if anything was amiss: what a decoder makes of damage may
        depend on the runs that it has seen before, so a single one has to read them, in their order.
    """
    stream, damage, left = cast("VideoStream", source.video_stream), Damage(), deque(runs)
    share = replace(limits, max_decoded_pixels=limits.max_decoded_pixels // n_readers)

    def read(reader: FrameReader) -> None:
        try:
            reader.read(_taken(left, damage))
        except (AhseError, MemoryError):
            damage.counts["picture"] += 1

    readers = list[FrameReader]()
    with ExitStack() as opened, ThreadPoolExecutor(n_readers) as threads:
        try:
            # To open a file may take longer than the others take for all runs that are left.
            while left and len(readers) < n_readers:
                same, _ = opened.enter_context(source.again(stream))
                readers.append(reader_of(same, share, damage))
                threads.submit(read, readers[-1])
        except (AhseError, RuntimeError):  # the second where no thread can be started
            damage.counts["picture"] += 1
    pictures = {number: picture for reader in readers for number, picture in reader.pictures.items()}
    n_decoded, n_pixels = sum(one.n_decoded for one in readers), sum(one.n_pixels for one in readers)
    is_whole = pictures.keys() == {number for run in runs for number in run.wanted}
    is_corrupt = any(reader.is_corrupt for reader in readers)
    if damage.counts or is_corrupt or not is_whole or n_pixels > n_decoded * _n_pixels(stream):
        return None
    first = readers[0]
    first.pictures, first.n_decoded = pictures, n_decoded
    return first


def _taken(left: deque[Run], damage: Damage) -> Iterator[Run]:
    """The next run, whenever a thread is through with one; none after damage."""
    with suppress(IndexError):
        while not damage.counts:
            yield left.popleft()


def _n_pixels(stream: VideoStream) -> int:
    """Of a frame, by the header."""
    return max(1, stream.width * stream.height)


def _choose(
    timeline: Timeline, spec: DecodeSpec, budget: int, parts: Sequence[Span]
) -> tuple[list[int], list[str], bool]:
    """The wanted packets, those of the whole clip first, warnings, and whether the clip's are key frames."""
    whole = midpoints(Span(0.0, timeline.duration_s), spec.n_frames)
    only_keys = spec.frames == "key" and bool(_keys(timeline).any())
    wanted, is_exact = _affordable(timeline, whole, [], budget, only_keys=only_keys)
    warnings = [] if is_exact or only_keys else [_AT_KEY_FRAMES]
    if parts:
        targets = np.concatenate([midpoints(part, spec.n_segment_frames) for part in parts])
        more, parts_are_exact = _affordable(timeline, targets, wanted, budget, only_keys=only_keys)
        wanted += more
        warnings += [] if parts_are_exact or only_keys else [_SEGMENTS_AT_KEY_FRAMES]
    return wanted, warnings, not is_exact


def _affordable(
    timeline: Timeline,
    targets: npt.NDArray[np.float64],
    chosen: list[int],
    budget: int,
    *,
    only_keys: bool,
) -> tuple[list[int], bool]:
    """The packets for target times, and whether they are exact.

    They are the nearest key frames if only these are wanted, or if decoding the exact ones, in addition to
    those already chosen, would exceed the budget.
    """
    if not only_keys:
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
    pictures: npt.NDArray[np.uint8],
    warnings: list[str],
    spec: DecodeSpec,
    damage: Damage,
) -> VideoFrames:
    """Complete the pictures of the wanted packets: one that is missing is replaced by the nearest."""
    if not reader.pictures:
        return VideoFrames(None, np.empty(0), None, np.empty((0, 0)), reader.n_decoded, tuple(warnings))
    readable = np.zeros(len(timeline.times_s), dtype=np.bool_)
    readable[list(reader.pictures)] = True
    nearest = nearest_packets(timeline, timeline.times_s[list(wanted)], readable)
    # What was found stays in its place, whatever else has the same time: others may be filled from there.
    chosen = [one if readable[one] else other for one, other in zip(wanted, nearest, strict=True)]
    if damage.counts["picture"] or reader.misses(wanted):
        warnings = [*warnings, _DAMAGED]
    for picture, packet in zip(pictures, chosen, strict=True):
        picture[:] = reader.pictures[packet]
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
