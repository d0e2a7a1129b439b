"""Collecting a video stream's packets: their timeline, and their payload as long as it is small."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
from av.packet import Packet
from av.video.stream import VideoStream

from service.decode.plan import Timeline
from service.decode.source import UNREADABLE, open_again

# Payload kept in memory. A larger stream is demuxed a second time instead.
_KEEP_BYTES = 64 * 1024**2


class PacketLog:
    """The packets of one video stream, in file order.

    Args:
        stream: The stream; its time base gives the packets' timestamps their unit.
        path: The file, to read it again when the payload was not kept.
    """

    def __init__(self, stream: VideoStream, path: Path) -> None:
        self._stream = stream
        self._path = path
        self._kept: list[Packet[VideoStream]] | None = []
        self._n_bytes = 0
        self._pts: list[int | None] = []
        self._dts: list[int | None] = []
        self._durations: list[int] = []
        self._is_key: list[bool] = []
        self._is_shown: list[bool] = []

    def __len__(self) -> int:
        return len(self._pts)

    def add(self, packet: "Packet[VideoStream]") -> None:
        """Note one packet; it must not be an empty one."""
        self._pts.append(packet.pts)
        self._dts.append(packet.dts)
        self._durations.append(packet.duration or 0)
        self._is_key.append(packet.is_keyframe)
        self._is_shown.append(not packet.is_discard)
        self._n_bytes += packet.size
        if self._n_bytes > _KEEP_BYTES:
            self._kept = None
        if self._kept is not None:
            self._kept.append(packet)

    def timeline(self) -> Timeline:
        """The packet table. At least one packet must have been added."""
        is_shown = np.array(self._is_shown)
        if not is_shown.any():
            is_shown[:] = True
        ticks = self._ticks()
        shown = np.sort(ticks[is_shown])
        last = self._durations[int(np.argmax(np.where(is_shown, ticks, -np.inf)))] or _typical_gap(shown)
        unit = float(self._stream.time_base or 1)
        return Timeline(
            times_s=(ticks - shown[0]) * unit,
            is_key=np.array(self._is_key),
            is_shown=is_shown,
            duration_s=float(shown[-1] - shown[0] + last) * unit,
            start_s=float(shown[0]) * unit,
        )

    def replay(self) -> "Iterator[tuple[int, Packet[VideoStream]]]":
        """The packets once more, each with its number."""
        if self._kept is not None:
            yield from enumerate(self._kept)
            return
        with open_again(self._path, self._stream.index) as container:
            try:
                packets = (p for p in container.demux(container.streams[self._stream.index]) if p.size)
                yield from zip(range(len(self)), packets, strict=False)
            except UNREADABLE:
                return

    def _ticks(self) -> npt.NDArray[np.float64]:
        """Times in the stream's time base: presentation's, else decoding's, else one frame interval apart."""
        for stamps in (self._pts, self._dts):
            known = [stamp for stamp in stamps if stamp is not None]
            if len(known) == len(stamps):
                return np.array(known, dtype=np.float64)
        rate, unit = self._stream.average_rate or self._stream.guessed_rate or 25, self._stream.time_base or 1
        return np.arange(len(self._pts)) / float(rate * unit)


def _typical_gap(rising: npt.NDArray[np.float64]) -> float:
    return float(np.median(np.diff(rising))) if len(rising) > 1 else 0.0
