"""Whose rows run next. No threads: the queue is a plain value."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.batch.queue import Job, JobQueue
from service.cancellation import CancellationToken, WorkCancelled


def _job(n_rows: int, length: int = 1, token: CancellationToken | None = None) -> Job:
    return Job(np.zeros((n_rows, length)), token)


def _taken(queue: JobQueue, jobs: dict[str, Job]) -> list[tuple[str, int]]:
    """The next batch, as names of jobs and how many of their rows."""
    names = {id(job): name for name, job in jobs.items()}
    return [(names[id(part.job)], len(part.rows)) for part in queue.take()]


def _queue(jobs: dict[str, Job], budget: int) -> JobQueue:
    queue = JobQueue("fake", budget)
    for job in jobs.values():
        queue.add(job)
    return queue


def test_a_small_job_waits_for_one_batch_of_a_large_one() -> None:
    """Then the other jobs have their turn, also one that arrived later; batches are filled up."""
    jobs = {"large": _job(1000), "small": _job(2)}
    queue = _queue(jobs, budget=10)
    assert _taken(queue, jobs) == [("large", 10)]
    jobs["other"] = _job(3)
    queue.add(jobs["other"])
    assert _taken(queue, jobs) == [("small", 2), ("other", 3), ("large", 5)]
    assert queue.n_rows == 1000 - 15


def test_a_job_that_filled_up_a_batch_keeps_its_place() -> None:
    """Using the space that another job left was not its turn, so it is first in the next batch."""
    jobs = {"first": _job(6), "second": _job(8), "third": _job(8)}
    queue = _queue(jobs, budget=10)
    assert _taken(queue, jobs) == [("first", 6), ("second", 4)]
    assert _taken(queue, jobs) == [("second", 4), ("third", 6)]
    assert _taken(queue, jobs) == [("third", 2)]
    assert _taken(queue, jobs) == []


def test_large_jobs_take_turns() -> None:
    """No job gets a second batch before the others have had one."""
    jobs = {name: _job(8) for name in "abc"}
    queue = _queue(jobs, budget=4)
    assert [_taken(queue, jobs)[0][0] for _ in range(6)] == ["a", "b", "c", "a", "b", "c"]


def test_rows_of_different_shapes_run_in_different_batches() -> None:
    """They can't be in one array; a job that was passed over comes first in the next batch."""
    jobs = {"short": _job(2, length=3), "long": _job(2, length=5), "short too": _job(1, length=3)}
    queue = _queue(jobs, budget=10)
    assert _taken(queue, jobs) == [("short", 2), ("short too", 1)]
    assert _taken(queue, jobs) == [("long", 2)]


def test_the_budget_limits_the_cost_of_a_batch_not_its_rows() -> None:
    """Two rows of cost 4 fit into 10; a row that costs more than the budget runs alone."""
    queue = JobQueue("fake", 10)
    queue.add(Job(np.zeros((3, 4)), row_cost=4))
    queue.add(Job(np.zeros((2, 40)), row_cost=40))
    assert [[len(part.rows) for part in queue.take()] for _ in range(4)] == [[2], [1], [1], [1]]


def test_parallel_batches_share_the_queued_cost() -> None:
    """Each of two gets half of what is left, rounded up, within the budget, and at least two rows."""
    queue = _queue({"one": _job(9)}, budget=10)
    assert [[len(part.rows) for part in queue.take(2)] for _ in range(4)] == [[5], [2], [2], []]
    assert [len(part.rows) for part in _queue({"few": _job(5)}, budget=10).take(8)] == [1]
    assert [len(part.rows) for part in _queue({"large": _job(100)}, budget=10).take(2)] == [10]
    assert [len(part.rows) for part in _queue({"single": _job(1)}, budget=10).take(8)] == [1]
    dear = JobQueue("fake", 100)
    dear.add(Job(np.zeros((4, 1)), row_cost=10))
    assert [len(part.rows) for part in dear.take(2)] == [2]


def test_a_cancelled_job_is_dropped() -> None:
    """Its rows are in no further batch and it ends with WorkCancelled; other jobs are not affected."""
    token = CancellationToken()
    jobs = {"cancelled": _job(5, token=token), "wanted": _job(2, token=CancellationToken())}
    queue = _queue(jobs, budget=4)
    assert _taken(queue, jobs) == [("cancelled", 4)]
    token.cancel()
    assert _taken(queue, jobs) == [("wanted", 2)]
    assert queue.n_rows == 0
    with pytest.raises(WorkCancelled, match="fake"):
        jobs["cancelled"].result()


@given(st.lists(st.integers(1, 40), min_size=1, max_size=8), st.integers(1, 16))
def test_every_row_runs_once_and_results_are_in_order(sizes: list[int], budget: int) -> None:
    """For jobs of any size: no batch exceeds the budget, and only the last one is not full."""
    queue, jobs = JobQueue("fake", budget), [Job(np.arange(n, dtype=np.float64)[:, None]) for n in sizes]
    for job in jobs:
        queue.add(job)
    n_rows = []
    while batch := queue.take():
        n_rows.append(sum(len(part.rows) for part in batch))
        for part in batch:
            part.job.store(part.start, part.rows.astype(np.float32))
    assert n_rows[:-1] == [budget] * (len(n_rows) - 1)
    assert sum(n_rows) == sum(sizes)
    for job in jobs:
        np.testing.assert_array_equal(job.result(), job.rows)
