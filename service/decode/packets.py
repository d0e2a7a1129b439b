"""The packets of a video stream: a table of all, their payload, and which to decode for the wanted frames."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from av.packet import Packet
from av.video.stream import VideoStream

from service.decode.container import Damage, Source
from service.decode.segments import Span

# A frame that starts this shortly after a target time counts as on screen: the two are rounded differently.
_SAME_TIME_S = 1e-6
# The most frames that H.264 may reorder.
_MOST_REORDERED = 16

Times = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Timeline:
    """The packet table of a video stream, in file order, which is decoding order.

    Attributes:
        times_s: float64 [n_packets], presentation time since the first frame that is shown.
        is_key: bool [n_packets], whether decoding can start at this packet.
        is_shown: bool [n_packets], False for packets that only serve as references for others.
        duration_s: Time from the start of the first shown frame to the end of the last one.
        start_s: Start of the first shown frame on the clock of the file.
    """

    times_s: Times
    is_key: npt.NDArray[np.bool_]
    is_shown: npt.NDArray[np.bool_]
    duration_s: float
    start_s: float = 0.0

    @property
    def end_s(self) -> float:
        """End of the last shown frame on the clock of the file."""
        return self.start_s + self.duration_s

    @cached_property
    def rank(self) -> npt.NDArray[np.intp]:
        """Of each packet its place among all in the order in which they are shown: [n_packets]."""
        return np.argsort(np.argsort(self.times_s, kind="stable"), kind="stable")

    @cached_property
    def n_reordered(self) -> int:
        """The most frames that precede one in the file and are shown later; no more than H.264 allows."""
        rank = self.rank
        later = np.zeros(len(rank), np.intp)
        for distance in range(1, min(_MOST_REORDERED, len(rank) - 1) + 1):
            later[distance:] += rank[:-distance] > rank[distance:]
        return int(later.max())


@dataclass(frozen=True)
class Run:
    """Consecutive packets that are fed to a fresh decoder, which is then flushed.

    Attributes:
        start: Index of the first packet, at which decoding can start.
        wanted: Indices of the packets whose frames are wanted, ascending; the run ends with the last one.
    """

    start: int
    wanted: tuple[int, ...]

    @property
    def stop(self) -> int:
        """One past the index of the last packet."""
        return self.wanted[-1] + 1

    @property
    def n_packets(self) -> int:
        """Number of packets to decode."""
        return self.stop - self.start


def midpoints(span: Span, n_targets: int) -> Times:
    """The midpoints of `n_targets` equal intervals of a span; for one interval the midpoint of the span."""
    length_s = span.end_s - span.start_s
    return span.start_s + (np.arange(n_targets, dtype=np.float64) + 0.5) * (length_s / n_targets)


def packets_on_screen(timeline: Timeline, targets: Times) -> list[int]:
    """For each target time the packet whose frame is on screen; before the first frame, that of the first.

    Args:
        timeline: The packet table.
        targets: float64 [n_targets], seconds.
    """
    candidates, times = _in_time_order(timeline, timeline.is_shown)
    at = np.searchsorted(times, targets + _SAME_TIME_S, side="right") - 1
    return [int(i) for i in candidates[at.clip(0)]]


def nearest_packets(timeline: Timeline, targets: Times, among: npt.NDArray[np.bool_]) -> list[int]:
    """For each target time the packet that starts nearest to it; of two equally near ones the earlier.

    Args:
        timeline: The packet table.
        targets: float64 [n_targets], seconds.
        among: bool [n_packets], candidate packets, at least one.
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
    """The shortest runs of packets that yield the wanted frames, at most one per group of pictures."""
    runs: list[Run] = []
    for packet in sorted(set(wanted)):
        run = Run(_entry_point(timeline, packet), (packet,))
        # Overlapping runs would decode packets twice; one that starts where the last stops continues it.
        while runs and run.start <= runs[-1].stop:
            before = runs.pop()
            run = Run(min(before.start, run.start), before.wanted + run.wanted)
        runs.append(run)
    return runs


def _entry_point(timeline: Timeline, packet: int) -> int:
    """The last key packet at or before a packet whose frame is not shown later than that of the packet.

    A leading picture of an open group is stored after a key frame but shown before it. It refers to the
    previous group too, so decoding has to start there.
    """
    times = timeline.times_s[: packet + 1]
    entries = np.flatnonzero(timeline.is_key[: packet + 1] & (times <= times[packet]))
    return int(entries[-1]) if len(entries) else 0


# Maximum payload kept in memory. A larger stream is demuxed a second time instead.
_KEEP_BYTES = 12 * 1024**2


class PacketLog:
    """The packets of one video stream, in file order.

    Args:
        stream: The stream; its time base is the unit of the timestamps.
        source: The file, which is read again if the payload is too large to keep.
        damage: Counts errors of reading it again.
    """

    def __init__(self, stream: VideoStream, source: Source, damage: Damage) -> None:
        self._stream = stream
        self._source = source
        self._damage = damage
        self._kept: list[Packet[VideoStream]] | None = []
        self._n_bytes = 0
        self._pts: list[int | None] = []
        self._dts: list[int | None] = []
        self._durations: list[int] = []
        self._is_key: list[bool] = []
        self._is_shown: list[bool] = []

    def __len__(self) -> int:
        return len(self._pts)

    @property
    def can_be_shared(self) -> bool:
        """Whether several decoders can replay the packets at once: from memory, under one header."""
        return self._kept is not None and not any(p.has_sidedata("new_extradata") for p in self._kept)

    def add(self, packet: Packet[VideoStream]) -> None:
        """Add one packet, which must not be empty."""
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
        """Iterate over the packets again, each with its index."""
        if self._kept is not None:
            yield from enumerate(self._kept)
            return
        with self._damage.kept_to("file"), self._source.again(self._stream) as (_, packets):
            yield from zip(range(len(self)), packets, strict=False)

    def _ticks(self) -> npt.NDArray[np.float64]:
        """Times in the time base of the stream.

        These are presentation times if all packets have one, else decoding times, else the durations of the
        packets added up: a mixture would put frames in the wrong order. A stream without a container has no
        times. Its packets then count as if shown in decoding order, so frames that the codec reorders are
        taken a few frames early or late.
        """
        for stamps in (self._pts, self._dts):
            known = [stamp for stamp in stamps if stamp is not None]
            if len(known) == len(stamps):
                return np.array(known, dtype=np.float64)
        if all(self._durations):
            return self._sums()
        rate, unit = self._stream.average_rate or self._stream.guessed_rate or 25, self._stream.time_base or 1
        return np.arange(len(self._pts)) / float(rate * unit)

    def _sums(self) -> npt.NDArray[np.float64]:
        """Sums of durations, begun anew at each decoding time that is known, from the first time of showing.

        In a programme stream only some packets have times, which tell of gaps and of where the sound is.
        """
        ticks, due = np.empty(len(self._dts)), 0
        for place, stamp in enumerate(self._dts):
            if stamp is not None:
                due = stamp - sum(self._durations[:place])
                break
        for place, (stamp, duration) in enumerate(zip(self._dts, self._durations, strict=True)):
            ticks[place] = due if stamp is None else stamp
            due = int(ticks[place]) + duration
        shown = next(((place, stamp) for place, stamp in enumerate(self._pts) if stamp is not None), None)
        return ticks if shown is None else ticks + (shown[1] - ticks[shown[0]])


def _typical_gap(ascending: npt.NDArray[np.float64]) -> float:
    return float(np.median(np.diff(ascending))) if len(ascending) > 1 else 0.0
