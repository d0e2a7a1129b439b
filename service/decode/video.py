"""The wanted frames of a video stream: plan from its packets, decode no more than that takes."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from av.video.stream import VideoStream

from service.decode.packets import PacketLog
from service.decode.picture import Framer
from service.decode.plan import Run, Timeline, midpoints, nearest_packets, packets_on_screen, plan_runs
from service.decode.reader import FrameReader
from service.decode.segments import Span
from service.errors import ClipTooLargeError
from service.media import DecodeLimits, DecodeSpec

_AT_KEY_FRAMES = "The clip is large: frames were taken at its key frames, not at evenly spaced times."
_SEGMENTS_AT_KEY_FRAMES = (
    "The clip is large: the frames of its segments were taken at key frames, which may be outside of a short "
    "segment."
)
_DAMAGED = "Parts of the picture are damaged: the nearest readable frames were used."


@dataclass(frozen=True, eq=False)
class Frames:
    """The pictures of a clip and of its segments.

    Attributes:
        pictures: uint8 [n_frames, size, size, 3], RGB; None when nothing could be decoded.
        times_s: float64 [n_frames], seconds since the first frame.
        parts: uint8 [n_parts, n_segment_frames, size, size, 3], RGB; None when nothing could be decoded.
        n_decoded: Frames that the decoder put out.
        warnings: What was left out or repaired.
    """

    pictures: npt.NDArray[np.uint8] | None
    times_s: npt.NDArray[np.float64]
    parts: npt.NDArray[np.uint8] | None
    n_decoded: int
    warnings: tuple[str, ...]


def read_frames(
    stream: VideoStream,
    log: PacketLog,
    timeline: Timeline,
    spec: DecodeSpec,
    limits: DecodeLimits,
    parts: Sequence[Span] = (),
) -> Frames:
    """Decode the frames that a model wants, of the clip and of parts of it in one pass.

    Which frames stand for the clip does not depend on the parts.

    Args:
        stream: The stream, not decoded from before.
        log: All its packets, at least one.
        timeline: Their table.
        spec: How many frames, where, and how large.
        limits: The caps on pixels.
        parts: Stretches that frames of their own are wanted of, in seconds since the first frame.

    Raises:
        ClipTooLargeError: When the wanted frames are over a limit on pixels even at key frames.
    """
    budget = limits.max_decoded_pixels // max(1, stream.width * stream.height)
    wanted, warnings = _choose(timeline, spec, budget, parts)
    framer = Framer(spec.image_size_px, spec.resize, _pixel_aspect(stream), limits.max_frame_pixels)
    reader = FrameReader(stream, log, timeline, framer, limits)
    reader.read(plan_runs(timeline, wanted))
    whole = Run(0, tuple(sorted(set(wanted))))
    if reader.misses(wanted) and reader.n_decoded + whole.n_packets <= budget:
        # The marks of key frames or the timestamps lied, or the file is damaged: leave nothing out.
        reader.read([whole], leave_out=False)
    return _collect(reader, timeline, wanted, warnings, spec)


def _choose(
    timeline: Timeline, spec: DecodeSpec, budget: int, parts: Sequence[Span]
) -> tuple[list[int], list[str]]:
    """The wanted packets, the clip's own first, and what had to be said about them."""
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
    """The packets for some times, and whether they are exact.

    Key frames only, if decoding up to the exact ones costs more than the budget, beside those already chosen.
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
    reader: FrameReader, timeline: Timeline, wanted: Sequence[int], warnings: list[str], spec: DecodeSpec
) -> Frames:
    """Line the pictures up with the wanted packets; the nearest one stands in for one that is missing."""
    if not reader.pictures:
        return Frames(None, np.empty(0), None, reader.n_decoded, tuple(warnings))
    readable = np.zeros(len(timeline.times_s), dtype=np.bool_)
    readable[list(reader.pictures)] = True
    chosen = nearest_packets(timeline, timeline.times_s[list(wanted)], readable)
    if reader.n_errors or reader.misses(wanted):
        warnings = [*warnings, _DAMAGED]
    pictures = np.stack([reader.pictures[packet] for packet in chosen])
    whole, parts = np.split(pictures, [spec.n_frames])
    return Frames(
        pictures=whole,
        times_s=timeline.times_s[chosen[: spec.n_frames]],
        parts=parts.reshape(-1, spec.n_segment_frames, *parts.shape[1:]),
        n_decoded=reader.n_decoded,
        warnings=tuple(warnings),
    )


def _pixel_aspect(stream: VideoStream) -> float:
    return float(stream.sample_aspect_ratio or 1)
