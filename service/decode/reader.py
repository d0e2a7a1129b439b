"""Running a video decoder over chosen packets and keeping the wanted frames as pictures."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Literal, TypeAlias, cast

import numpy as np
import numpy.typing as npt
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from service.decode.packets import PacketLog
from service.decode.picture import Framer
from service.decode.plan import Run, Timeline
from service.decode.source import UNREADABLE
from service.errors import ClipTooLargeError
from service.media import DecodeLimits

# Decoders for which a frame that no other frame refers to can be left out without changing any other frame.
_CAN_LEAVE_OUT = frozenset({"h264", "mpeg2video"})

_Skip = Literal["NONREF", "DEFAULT"]
_Numbered: TypeAlias = "Iterator[tuple[int, Packet[VideoStream]]]"


class FrameReader:
    """Decodes runs of packets; each wanted packet's frame becomes a picture.

    Attributes:
        pictures: Packet number to uint8 [size, size, 3]: the wanted frames, and for each that did not come
            the one nearest to it.
        n_decoded: Frames that the decoder put out.
        n_errors: Packets that the decoder refused.
    """

    def __init__(
        self, stream: VideoStream, log: PacketLog, timeline: Timeline, framer: Framer, limits: DecodeLimits
    ) -> None:
        self.pictures: dict[int, npt.NDArray[np.uint8]] = {}
        self.n_decoded = 0
        self.n_errors = 0
        self._log = log
        self._times_s = timeline.times_s
        self._rank = np.argsort(np.argsort(timeline.times_s, kind="stable"), kind="stable")
        self._framer = framer
        self._pixels_left = limits.max_decoded_pixels
        self._context = stream.codec_context
        # Each frame carries its packet's number: timestamps may be missing or repeated.
        self._context.copy_opaque = True
        self._context.thread_count = 1
        self._context.options = {"max_pixels": str(limits.max_frame_pixels)}
        self._reorder_depth = self._context.reorder_depth

    def read(self, runs: Iterable[Run], *, leave_out: bool = True) -> None:
        """Decode some runs, in rising order.

        Args:
            runs: What to feed and what to keep.
            leave_out: Skip frames that are neither wanted nor needed for wanted ones.

        Raises:
            ClipTooLargeError: When the frames add up to more pixels than allowed.
        """
        skip: _Skip = "NONREF" if leave_out and self._context.name in _CAN_LEAVE_OUT else "DEFAULT"
        packets = self._log.replay()
        for run in runs:
            self._context.flush_buffers()
            # A flush may forget how far frames are reordered; without it the decoder drops late ones.
            self._context.reorder_depth = max(self._reorder_depth, self._context.reorder_depth)
            self._keep(run, self._frames(run, packets, skip))

    def misses(self, wanted: Sequence[int]) -> bool:
        """Whether a wanted packet gave no picture, and nor did a packet shown right before or after it.

        Some packets give no frame of their own: hidden reference frames, the second field of a frame.
        """
        found = {int(self._rank[packet]) for packet in self.pictures}
        return any(found.isdisjoint(range(rank - 1, rank + 2)) for rank in self._rank[list(wanted)].tolist())

    def _frames(self, run: Run, packets: _Numbered, skip: _Skip) -> Iterator[VideoFrame]:
        """Everything the decoder puts out for one run."""
        wanted = frozenset(run.wanted)
        for number, packet in packets:
            if number >= run.start:
                self._context.skip_frame = "DEFAULT" if number in wanted else skip
                # A fresh object each time: PyAV keeps these by identity and forgets one that is shared.
                packet.opaque = (number,)
                yield from self._decode(packet)
            if number + 1 >= run.stop:
                break
        yield from self._decode(None)

    def _decode(self, packet: "Packet[VideoStream] | None") -> list[VideoFrame]:
        try:
            return self._context.decode(packet)
        except MemoryError:  # no damage: the limit of this process
            raise
        except UNREADABLE:
            self.n_errors += 1
            return []

    def _keep(self, run: Run, frames: Iterable[VideoFrame]) -> None:
        """Make pictures of the run's wanted frames, and of the nearest frame for each that does not come."""
        wanted_s = self._times_s[list(run.wanted)]
        # From each wanted frame to the nearest one so far; nothing is nearer than the frame itself.
        distances_s = np.full(len(run.wanted), np.inf)
        nearest: dict[int, tuple[int, VideoFrame]] = {}
        places = {number: place for place, number in enumerate(run.wanted)}
        for frame in frames:
            self._count(frame)
            if frame.opaque is None:  # made up by the decoder, for a gap
                continue
            (number,) = cast("tuple[int]", frame.opaque)
            if number in places:
                place = places.pop(number)
                self.pictures[number] = self._framer.picture(frame)
                distances_s[place] = -1
                nearest.pop(place, None)  # frames are large: none is kept longer than needed
            from_here_s = np.abs(wanted_s - self._times_s[number])
            nearer = np.flatnonzero(from_here_s < distances_s)
            distances_s[nearer] = from_here_s[nearer]
            nearest |= dict.fromkeys(nearer.tolist(), (number, frame))
        for number, frame in dict(nearest.values()).items():
            self.pictures[number] = self._framer.picture(frame)

    def _count(self, frame: VideoFrame) -> None:
        self.n_decoded += 1
        self._pixels_left -= frame.width * frame.height
        if self._pixels_left < 0:
            raise ClipTooLargeError(
                "Decoding this clip takes too many pixels. Send a shorter or smaller one."
            )
