"""Whose rows run next. No threads: the queue is a plain value."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.batch.queue import Job, Turns
from service.cancellation import Client, ClientGone


def _job(n_rows: int, length: int = 1, client: Client | None = None) -> Job:
    return Job(np.zeros((n_rows, length)), client)


def _taken(turns: Turns, jobs: dict[str, Job]) -> list[tuple[str, int]]:
    """The next batch, as names of jobs and how many of their rows."""
    names = {id(job): name for name, job in jobs.items()}
    return [(names[id(part.job)], len(part.rows)) for part in turns.take()]


def _queue(jobs: dict[str, Job], budget: int) -> Turns:
    turns = Turns("fake", budget)
    for job in jobs.values():
        turns.add(job)
    return turns


def test_a_small_job_waits_for_one_batch_of_a_large_one() -> None:
    """It gets one batch; then the others have their turn, also who came later. No room is wasted."""
    jobs = {"large": _job(1000), "small": _job(2)}
    turns = _queue(jobs, budget=10)
    assert _taken(turns, jobs) == [("large", 10)]
    jobs["other"] = _job(3)
    turns.add(jobs["other"])
    assert _taken(turns, jobs) == [("small", 2), ("other", 3), ("large", 5)]
    assert turns.n_rows == 1000 - 15


def test_a_job_that_filled_a_gap_keeps_its_place() -> None:
    """What was left of another's batch was not its turn; it goes on first."""
    jobs = {"first": _job(6), "second": _job(8), "third": _job(8)}
    turns = _queue(jobs, budget=10)
    assert _taken(turns, jobs) == [("first", 6), ("second", 4)]
    assert _taken(turns, jobs) == [("second", 4), ("third", 6)]
    assert _taken(turns, jobs) == [("third", 2)]
    assert _taken(turns, jobs) == []


def test_large_jobs_take_turns() -> None:
    """None of three is served twice before the others are served once."""
    jobs = {name: _job(8) for name in "abc"}
    turns = _queue(jobs, budget=4)
    assert [_taken(turns, jobs)[0][0] for _ in range(6)] == ["a", "b", "c", "a", "b", "c"]


def test_rows_of_another_shape_wait_for_their_own_batch() -> None:
    """They can't be in one array; whoever was passed over is first next time."""
    jobs = {"short": _job(2, length=3), "long": _job(2, length=5), "short too": _job(1, length=3)}
    turns = _queue(jobs, budget=10)
    assert _taken(turns, jobs) == [("short", 2), ("short too", 1)]
    assert _taken(turns, jobs) == [("long", 2)]


def test_the_budget_is_of_cost_not_of_rows() -> None:
    """Rows that cost 4 fit twice into 10; one that costs more than the budget still runs, alone."""
    turns = Turns("fake", 10)
    turns.add(Job(np.zeros((3, 4)), row_cost=4))
    turns.add(Job(np.zeros((2, 40)), row_cost=40))
    assert [[len(part.rows) for part in turns.take()] for _ in range(4)] == [[2], [1], [1], [1]]


def test_a_share_is_of_the_cost_that_waits() -> None:
    """Two batches that can begin now halve what waits, rounded up; the budget still holds."""
    turns = _queue({"one": _job(5)}, budget=10)
    assert [[len(part.rows) for part in turns.take(n)] for n in (2, 1)] == [[3], [2]]
    assert [len(part.rows) for part in _queue({"large": _job(100)}, budget=10).take(2)] == [10]
    assert [len(part.rows) for part in _queue({"single": _job(1)}, budget=10).take(8)] == [1]
    dear = Turns("fake", 100)
    dear.add(Job(np.zeros((4, 1)), row_cost=10))
    assert [len(part.rows) for part in dear.take(2)] == [2]


def test_work_of_a_client_that_left_is_dropped() -> None:
    """Its rows are in no batch, and it ends with ClientGone; the others are as if it had never been there."""
    gone = Client()
    jobs = {"gone": _job(5, client=gone), "here": _job(2, client=Client())}
    turns = _queue(jobs, budget=4)
    assert _taken(turns, jobs) == [("gone", 4)]
    gone.leave()
    assert _taken(turns, jobs) == [("here", 2)]
    assert turns.n_rows == 0
    with pytest.raises(ClientGone, match="fake"):
        jobs["gone"].result()


@given(st.lists(st.integers(1, 40), min_size=1, max_size=8), st.integers(1, 16))
def test_every_row_runs_once_in_its_jobs_order(sizes: list[int], budget: int) -> None:
    """Whatever the sizes: no batch is over the budget, none but the last is less than full."""
    turns, jobs = Turns("fake", budget), [Job(np.arange(n, dtype=np.float64)[:, None]) for n in sizes]
    for job in jobs:
        turns.add(job)
    n_rows = []
    while batch := turns.take():
        n_rows.append(sum(len(part.rows) for part in batch))
        for part in batch:
            part.job.encoded(part.start, part.rows.astype(np.float32))
    assert n_rows[:-1] == [budget] * (len(n_rows) - 1)
    assert sum(n_rows) == sum(sizes)
    for job in jobs:
        np.testing.assert_array_equal(job.result(), job.rows)
