"""A video stream's packets: their table, their payload, and which of them to decode for the wanted frames."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from av.packet import Packet
from av.video.stream import VideoStream

from service.decode.container import UNREADABLE, open_again
from service.decode.segments import Span

# A frame that starts this shortly after a target time is on screen at it: the two are computed differently.
_SAME_TIME_S = 1e-6

Times = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Timeline:
    """A video stream's packets in file (= decoding) order.

    Attributes:
        times_s: float64 [n_packets], presentation time since the first shown frame.
        is_key: bool [n_packets], decoding can start here.
        is_shown: bool [n_packets], False for packets that are only decoded because others refer to them.
        duration_s: From the first shown frame's start to the last one's end.
        start_s: When the first shown frame starts, on the clock of the file.
    """

    times_s: Times
    is_key: npt.NDArray[np.bool_]
    is_shown: npt.NDArray[np.bool_]
    duration_s: float
    start_s: float = 0.0


@dataclass(frozen=True)
class Run:
    """Consecutive packets to feed to a fresh decoder, then to flush.

    Attributes:
        start: First packet, one that decoding can start at.
        wanted: Packets whose frames are wanted, rising; the run ends with the last one.
    """

    start: int
    wanted: tuple[int, ...]

    @property
    def stop(self) -> int:
        """One past the last packet."""
        return self.wanted[-1] + 1

    @property
    def n_packets(self) -> int:
        """How many packets the decoder is fed."""
        return self.stop - self.start


def midpoints(span: Span, n_targets: int) -> Times:
    """The midpoints of `n_targets` equal intervals of a stretch of time; one is its middle."""
    length_s = span.end_s - span.start_s
    return span.start_s + (np.arange(n_targets, dtype=np.float64) + 0.5) * (length_s / n_targets)


def packets_on_screen(timeline: Timeline, targets: Times) -> list[int]:
    """For each target time the packet whose frame is on screen then, the first one before there is any.

    Args:
        timeline: The packet table.
        targets: float64 [n_targets], seconds.
    """
    candidates, times = _in_time_order(timeline, timeline.is_shown)
    at = np.searchsorted(times, targets + _SAME_TIME_S, side="right") - 1
    return [int(i) for i in candidates[at.clip(0)]]


def nearest_packets(timeline: Timeline, targets: Times, among: npt.NDArray[np.bool_]) -> list[int]:
    """For each target time the packet that starts nearest to it, the earlier one of two equally near.

    Args:
        timeline: The packet table.
        targets: float64 [n_targets], seconds.
        among: bool [n_packets], the packets to choose from, at least one.
    """
    candidates, times = _in_time_order(timeline, among)
    after = np.searchsorted(times, targets, side="left").clip(0, len(times) - 1)
    before = (after - 1).clip(0)
    earlier = targets - times[before] <= times[after] - targets
    return [int(i) for i in candidates[np.where(earlier, before, after)]]


def _in_time_order(timeline: Timeline, among: npt.NDArray[np.bool_]) -> tuple[npt.NDArray[np.intp], Times]:
    packets = np.flatnonzero(among)
    packets = packets[np.argsort(timeline.times_s[packets], kind="stable")]
    return packets, timeline.times_s[packets]


def plan_runs(timeline: Timeline, wanted: Sequence[int]) -> list[Run]:
    """The shortest runs of packets that give the wanted frames: one per group of pictures that holds any."""
    runs: list[Run] = []
    for packet in sorted(set(wanted)):
        run = Run(_entry_point(timeline, packet), (packet,))
        while runs and run.start <= runs[-1].stop:
            before = runs.pop()
            run = Run(min(before.start, run.start), before.wanted + run.wanted)
        runs.append(run)
    return runs


def _entry_point(timeline: Timeline, packet: int) -> int:
    """The last key packet before a packet that is also not shown after it.

    A frame stored after a key frame but shown before it (a leading picture of an open group) refers to the
    group before.
    """
    times = timeline.times_s[: packet + 1]
    entries = np.flatnonzero(timeline.is_key[: packet + 1] & (times <= times[packet]))
    return int(entries[-1]) if len(entries) else 0


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

    def add(self, packet: Packet[VideoStream]) -> None:
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

    def replay(self) -> Iterator[tuple[int, Packet[VideoStream]]]:
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
