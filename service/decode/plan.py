"""Which packets to decode for the wanted frames: pure arithmetic on a stream's packet table."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

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
