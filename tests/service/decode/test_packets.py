"""Which packets are decoded: laws that hold for every stream."""

from fractions import Fraction
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.decode.container import Damage
from service.decode.packets import (
    PacketLog,
    Run,
    Timeline,
    midpoints,
    nearest_packets,
    packets_on_screen,
    plan_runs,
)
from service.decode.segments import Span


@st.composite
def timelines(draw: st.DrawFn) -> Timeline:
    """Streams with any order of timestamps, any key frames and at least one shown frame."""
    n_packets = draw(st.integers(1, 40))
    ticks = draw(st.lists(st.integers(-5, 60), min_size=n_packets, max_size=n_packets))
    is_key = draw(st.lists(st.booleans(), min_size=n_packets, max_size=n_packets))
    is_shown = draw(st.lists(st.booleans(), min_size=n_packets, max_size=n_packets))
    is_shown[draw(st.integers(0, n_packets - 1))] = True
    return Timeline(np.array(ticks) / 30, np.array(is_key), np.array(is_shown), 2.0)


def stream(times: list[float], keys: set[int]) -> Timeline:
    """A stream of shown packets."""
    return Timeline(
        np.array(times),
        np.array([i in keys for i in range(len(times))]),
        np.ones(len(times), bool),
        max(times),
    )


def test_targets_are_midpoints_of_equal_intervals() -> None:
    """Four frames of eight seconds are at 1, 3, 5 and 7 s, one frame at half time, relative to the start."""
    np.testing.assert_allclose(midpoints(Span(0.0, 8.0), 4), [1, 3, 5, 7])
    np.testing.assert_allclose(midpoints(Span(0.0, 8.0), 1), [4])
    np.testing.assert_allclose(midpoints(Span(10.0, 18.0), 4), [11, 13, 15, 17])


@given(st.integers(1, 400))
def test_a_single_target_is_the_middle_frame(n_frames: int) -> None:
    """Of n frames of equal length the one on screen at half time has index n // 2."""
    timeline = stream([i / 30 for i in range(n_frames)], keys={0})
    assert packets_on_screen(timeline, midpoints(Span(0.0, n_frames / 30), 1)) == [n_frames // 2]


@given(timelines(), st.integers(1, 12))
def test_the_frame_on_screen_is_the_last_one_started(timeline: Timeline, n_frames: int) -> None:
    """No shown frame starts between it and the target; before the first frame that one is taken."""
    targets = midpoints(Span(0.0, 2.0), n_frames)
    shown = timeline.times_s[timeline.is_shown]
    for packet, target in zip(packets_on_screen(timeline, targets), targets, strict=True):
        started = shown[shown <= target + 1e-6]
        assert timeline.is_shown[packet]
        assert timeline.times_s[packet] == (started.max() if len(started) else shown.min())


@given(timelines(), st.integers(1, 12))
def test_no_candidate_is_nearer_than_the_nearest_packet(timeline: Timeline, n_frames: int) -> None:
    """The oracle is the distance to every candidate."""
    targets = midpoints(Span(0.0, 2.0), n_frames)
    for packet, target in zip(nearest_packets(timeline, targets, timeline.is_shown), targets, strict=True):
        distances = np.abs(timeline.times_s[timeline.is_shown] - target)
        assert abs(timeline.times_s[packet] - target) == distances.min()


@given(timelines(), st.data())
def test_runs_cover_wanted_packets_once_and_start_at_key_packets(
    timeline: Timeline, data: st.DataObject
) -> None:
    """Runs are ascending and disjoint; each starts at a key packet shown before its wanted ones, or at 0."""
    packets = st.integers(0, len(timeline.times_s) - 1)
    wanted = data.draw(st.lists(packets, min_size=1, max_size=12))
    runs = plan_runs(timeline, wanted)
    assert [packet for run in runs for packet in run.wanted] == sorted(set(wanted))
    for before, after in pairwise(runs):
        assert before.stop < after.start
    for run in runs:
        assert run.start == 0 or timeline.is_key[run.start]
        for packet in run.wanted:
            keys = [
                k
                for k in range(packet + 1)
                if timeline.is_key[k] and timeline.times_s[k] <= timeline.times_s[packet]
            ]
            assert run.start <= (keys[-1] if keys else 0)


def test_groups_of_pictures_apart_are_separate_runs() -> None:
    """Groups between them are not decoded."""
    timeline = stream([float(i) for i in range(12)], keys={0, 4, 8})
    assert plan_runs(timeline, [1, 9]) == [Run(0, (1,)), Run(8, (9,))]


def test_a_leading_picture_needs_the_previous_group() -> None:
    """In an open group such a frame is stored after the key frame but refers to the previous group."""
    timeline = stream([0, 2, 1, 6, 4, 5], keys={0, 3})
    assert plan_runs(timeline, [4]) == [Run(0, (4,))]
    assert plan_runs(timeline, [3]) == [Run(3, (3,))]


@given(timelines())
def test_as_many_frames_are_reordered_as_are_shown_after_a_later_one(timeline: Timeline) -> None:
    """Counted one by one."""
    rank = timeline.rank.tolist()
    assert sorted(rank) == list(range(len(rank)))
    before = [sum(earlier > later for earlier in rank[max(0, i - 16) : i]) for i, later in enumerate(rank)]
    assert timeline.n_reordered == max(before)


def test_packets_before_the_first_known_time_come_before_it() -> None:
    """As of a programme stream that begins inside of a frame; its clock may stand anywhere."""
    stream: Any = SimpleNamespace(time_base=Fraction(1, 25))
    source: Any = None
    log = PacketLog(stream, source, Damage())
    for stamp in (None, None, 90_000, None, 90_002):
        packet: Any = SimpleNamespace(
            pts=stamp, dts=stamp, duration=1, is_keyframe=True, is_discard=False, size=1
        )
        log.add(packet)
    timeline = log.timeline()
    np.testing.assert_allclose(timeline.times_s, np.arange(5) / 25)
    assert timeline.start_s == pytest.approx(89_998 / 25)
