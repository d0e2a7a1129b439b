"""The wanted frames of a video stream: plan from its packets, decode no more than that takes."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from av.video.stream import VideoStream

from service.decode.packets import PacketLog
from service.decode.picture import Framer
from service.decode.plan import Run, Timeline, nearest_packets, packets_on_screen, plan_runs, target_times
from service.decode.reader import FrameReader
from service.errors import ClipTooLargeError
from service.media import DecodeLimits, DecodeSpec

_AT_KEY_FRAMES = "The clip is large: frames were taken at its key frames, not at evenly spaced times."
_DAMAGED = "Parts of the picture are damaged: the nearest readable frames were used."


@dataclass(frozen=True, eq=False)
class Frames:
    """The pictures of a clip.

    Attributes:
        pictures: uint8 [n_frames, size, size, 3], RGB; None when nothing could be decoded.
        times_s: float64 [n_frames], seconds since the first frame.
        duration_s: Length of the stream.
        n_decoded: Frames that the decoder put out.
        warnings: What was left out or repaired.
    """

    pictures: npt.NDArray[np.uint8] | None
    times_s: npt.NDArray[np.float64]
    duration_s: float
    n_decoded: int
    warnings: tuple[str, ...]


def read_frames(stream: VideoStream, log: PacketLog, spec: DecodeSpec, limits: DecodeLimits) -> Frames:
    """Decode the frames that a model wants.

    Args:
        stream: The stream, not decoded from before.
        log: All its packets, at least one.
        spec: How many frames, where, and how large.
        limits: The caps on pixels.

    Raises:
        ClipTooLargeError: When the wanted frames are over a limit on pixels even at key frames.
    """
    timeline = log.timeline()
    targets = target_times(spec, timeline.duration_s)
    budget = limits.max_decoded_pixels // max(1, stream.width * stream.height)
    wanted, warnings = _affordable(timeline, targets, budget)
    framer = Framer(spec.image_size_px, _pixel_aspect(stream), limits.max_frame_pixels)
    reader = FrameReader(stream, log, timeline, framer, limits)
    reader.read(plan_runs(timeline, wanted))
    whole = Run(0, tuple(sorted(set(wanted))))
    if reader.misses(wanted) and reader.n_decoded + whole.n_packets <= budget:
        # The marks of key frames or the timestamps lied, or the file is damaged: leave nothing out.
        reader.read([whole], leave_out=False)
    return _collect(reader, timeline, wanted, warnings)


def _affordable(
    timeline: Timeline, targets: npt.NDArray[np.float64], budget: int
) -> tuple[list[int], list[str]]:
    """The wanted packets: key frames only, if decoding up to the exact ones costs more than the budget."""
    wanted = packets_on_screen(timeline, targets)
    if _cost(timeline, wanted) <= budget:
        return wanted, []
    keys = timeline.is_key & timeline.is_shown
    if keys.any():
        wanted = nearest_packets(timeline, targets, keys)
        if _cost(timeline, wanted) <= budget:
            return wanted, [_AT_KEY_FRAMES]
    raise ClipTooLargeError("Decoding this clip takes too many pixels. Send a shorter or smaller one.")


def _cost(timeline: Timeline, wanted: Sequence[int]) -> int:
    return sum(run.n_packets for run in plan_runs(timeline, wanted))


def _collect(reader: FrameReader, timeline: Timeline, wanted: Sequence[int], warnings: list[str]) -> Frames:
    """Line the pictures up with the wanted packets; the nearest one stands in for one that is missing."""
    if not reader.pictures:
        return Frames(None, np.empty(0), timeline.duration_s, reader.n_decoded, tuple(warnings))
    readable = np.zeros(len(timeline.times_s), dtype=np.bool_)
    readable[list(reader.pictures)] = True
    chosen = nearest_packets(timeline, timeline.times_s[list(wanted)], readable)
    if reader.n_errors or reader.misses(wanted):
        warnings = [*warnings, _DAMAGED]
    pictures = np.stack([reader.pictures[packet] for packet in chosen])
    return Frames(pictures, timeline.times_s[chosen], timeline.duration_s, reader.n_decoded, tuple(warnings))


def _pixel_aspect(stream: VideoStream) -> float:
    return float(stream.sample_aspect_ratio or 1)
