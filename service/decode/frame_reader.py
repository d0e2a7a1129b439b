"""One decoder of a video stream: runs of packets to the pictures of the wanted frames."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Literal, TypeAlias, cast

import numpy as np
import numpy.typing as npt
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from service.decode.container import Damage
from service.decode.formats import CAN_SKIP, HAVE_PALETTES, KNOW_ENCODERS
from service.decode.packets import PacketLog, Run, Timeline
from service.decode.picture import Framer
from service.errors import ClipTooLargeError
from service.media import DecodeLimits

_Skip = Literal["NONREF", "DEFAULT"]
Picture: TypeAlias = npt.NDArray[np.uint8]
"""uint8 [size, size, 3], RGB."""
_Numbered: TypeAlias = "Iterator[tuple[int, Packet[VideoStream]]]"


class FrameReader:
    """Decodes runs of packets and converts the wanted frames to pictures.

    Args:
        stream: The stream.
        log: Its packets.
        timeline: Their table.
        framer: Makes the pictures.
        limits: Limits on pixels.
        damage: Counts packets that the decoder rejects and frames that can't be converted.
        places: Packet index to the place that its picture is written to; others get one of their own.

    Attributes:
        pictures: Packet index to picture: the wanted frames, and for each that could not be decoded the
            nearest one.
        n_decoded: Frames that the decoder returned.
        n_pixels: Their pixels.
        is_corrupt: Whether the decoder said of one of them that it is.
    """

    def __init__(
        self,
        stream: VideoStream,
        log: PacketLog,
        timeline: Timeline,
        framer: Framer,
        limits: DecodeLimits,
        damage: Damage,
        places: Mapping[int, Picture],
    ) -> None:
        self.pictures: dict[int, Picture] = {}
        self._places = places
        self.n_decoded = 0
        self.n_pixels = 0
        self.is_corrupt = False
        self._damage = damage
        self._log = log
        self._times_s = timeline.times_s
        self._rank = timeline.rank
        self._framer = framer
        self._max_pixels = limits.max_decoded_pixels
        self._stream = stream
        self._context = stream.codec_context
        # Each frame carries the index of its packet, since timestamps may be missing or repeated.
        self._context.copy_opaque = True
        self._context.thread_count = 1
        self._context.options = {"max_pixels": str(limits.max_frame_pixels)}
        self._reorder_depth = self._context.reorder_depth
        if self._context.name == "h264":  # which tells it in an optional part of its header
            self._reorder_depth = max(self._reorder_depth, timeline.n_reordered)

    def read(self, runs: Iterable[Run], *, skip_unneeded: bool = True) -> None:
        """Decode runs, in ascending order.

        Args:
            runs: The packets to decode and the frames to keep.
            skip_unneeded: Whether to skip frames that are neither wanted nor references for others.

        Raises:
            ClipTooLargeError: The decoded frames exceed the limit on pixels.
        """
        skip: _Skip = "NONREF" if skip_unneeded and self._context.name in CAN_SKIP else "DEFAULT"
        packets, place = self._log.replay(), 0
        for run in runs:
            self._learn(islice(packets, run.start - place))
            place = run.stop
            self._context.flush_buffers()
            # A flush may reset the reorder depth, without which the decoder drops frames that arrive late.
            self._context.reorder_depth = max(self._reorder_depth, self._context.reorder_depth)
            self._keep(run, self._frames(run, packets, skip))

    def _learn(self, packets: _Numbered) -> None:
        """Let the decoder see those packets before a run that tell it something, without a frame of them."""
        name, first, latest = self._context.name, None, None
        kind: Literal["palette", "new_extradata"] = "palette" if name in HAVE_PALETTES else "new_extradata"
        for number, packet in packets:
            if number == 0 and name in KNOW_ENCODERS:
                first = packet
            if packet.has_sidedata(kind):
                latest = packet
        for telling in filter(None, (first, latest)):
            self._context.flush_buffers()  # the end of the run before ended the decoder, too
            self._context.skip_frame = "ALL"
            with Damage().kept_to("picture"):
                self._context.decode(telling)

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
        for number, packet in islice(packets, run.n_packets):
            self._context.skip_frame = "DEFAULT" if number in wanted else skip
            # A new object each time: PyAV stores these by identity and drops one that is shared.
            packet.opaque = (number,)
            yield from self._decode(packet)
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
            picture = self._framer.picture(frame, self._pixel_aspect())
            if (place := self._places.get(number)) is not None:
                place[:] = picture
            self.pictures[number] = picture if place is None else place
            return True
        return False

    def _count(self, frame: VideoFrame) -> None:
        self.n_decoded += 1
        self.n_pixels += frame.width * frame.height
        self.is_corrupt |= frame.is_corrupt
        if self.n_pixels > self._max_pixels:
            raise ClipTooLargeError(
                "Decoding this clip takes too many pixels. Send a shorter or smaller one."
            )
