"""Whose rows run next. No threads: the queue is a plain value."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.batch.queue import Call, CallQueue
from service.cancellation import CancellationToken, WorkCancelled


def _call(n_rows: int, length: int = 1, token: CancellationToken | None = None) -> Call:
    return Call(np.zeros((n_rows, length)), token)


def _taken(queue: CallQueue, calls: dict[str, Call]) -> list[tuple[str, int]]:
    """The next batch, as names of calls and how many of their rows."""
    names = {id(call): name for name, call in calls.items()}
    return [(names[id(part.call)], len(part.rows)) for part in queue.take()]


def _queue(calls: dict[str, Call], budget: int) -> CallQueue:
    queue = CallQueue("fake", budget)
    for call in calls.values():
        queue.add(call)
    return queue


def test_a_small_call_waits_for_one_batch_of_a_large_one() -> None:
    """Then the other calls have their turn, also one that arrived later; batches are filled up."""
    calls = {"large": _call(1000), "small": _call(2)}
    queue = _queue(calls, budget=10)
    assert _taken(queue, calls) == [("large", 10)]
    calls["other"] = _call(3)
    queue.add(calls["other"])
    assert _taken(queue, calls) == [("small", 2), ("other", 3), ("large", 5)]
    assert queue.n_rows == 1000 - 15


def test_a_call_that_filled_up_a_batch_keeps_its_place() -> None:
    """Using the space that another call left was not its turn, so it is first in the next batch."""
    calls = {"first": _call(6), "second": _call(8), "third": _call(8)}
    queue = _queue(calls, budget=10)
    assert _taken(queue, calls) == [("first", 6), ("second", 4)]
    assert _taken(queue, calls) == [("second", 4), ("third", 6)]
    assert _taken(queue, calls) == [("third", 2)]
    assert _taken(queue, calls) == []


def test_large_calls_take_turns() -> None:
    """No call gets a second batch before the others have had one."""
    calls = {name: _call(8) for name in "abc"}
    queue = _queue(calls, budget=4)
    assert [_taken(queue, calls)[0][0] for _ in range(6)] == ["a", "b", "c", "a", "b", "c"]


def test_rows_of_different_shapes_run_in_different_batches() -> None:
    """They can't be in one array; a call that was passed over comes first in the next batch."""
    calls = {"short": _call(2, length=3), "long": _call(2, length=5), "short too": _call(1, length=3)}
    queue = _queue(calls, budget=10)
    assert _taken(queue, calls) == [("short", 2), ("short too", 1)]
    assert _taken(queue, calls) == [("long", 2)]


def test_the_budget_limits_the_cost_of_a_batch_not_its_rows() -> None:
    """Two rows of cost 4 fit into 10; a row that costs more than the budget runs alone."""
    queue = CallQueue("fake", 10)
    queue.add(Call(np.zeros((3, 4)), row_cost=4))
    queue.add(Call(np.zeros((2, 40)), row_cost=40))
    assert [[len(part.rows) for part in queue.take()] for _ in range(4)] == [[2], [1], [1], [1]]


def test_parallel_batches_share_the_queued_cost() -> None:
    """Each of two gets half of what is left, rounded up, within the budget, and at least two rows."""
    queue = _queue({"one": _call(9)}, budget=10)
    assert [[len(part.rows) for part in queue.take(2)] for _ in range(4)] == [[5], [2], [2], []]
    assert [len(part.rows) for part in _queue({"few": _call(5)}, budget=10).take(8)] == [1]
    assert [len(part.rows) for part in _queue({"large": _call(100)}, budget=10).take(2)] == [10]
    assert [len(part.rows) for part in _queue({"single": _call(1)}, budget=10).take(8)] == [1]
    dear = CallQueue("fake", 100)
    dear.add(Call(np.zeros((4, 1)), row_cost=10))
    assert [len(part.rows) for part in dear.take(2)] == [2]


def test_a_cancelled_call_is_dropped() -> None:
    """Its rows are in no further batch and it ends with WorkCancelled; other calls are not affected."""
    token = CancellationToken()
    calls = {"cancelled": _call(5, token=token), "wanted": _call(2, token=CancellationToken())}
    queue = _queue(calls, budget=4)
    assert _taken(queue, calls) == [("cancelled", 4)]
    token.cancel()
    assert _taken(queue, calls) == [("wanted", 2)]
    assert queue.n_rows == 0
    with pytest.raises(WorkCancelled, match="fake"):
        calls["cancelled"].result()


@given(st.lists(st.integers(1, 40), min_size=1, max_size=8), st.integers(1, 16))
def test_every_row_runs_once_and_results_are_in_order(sizes: list[int], budget: int) -> None:
    """For calls of any size: no batch exceeds the budget, and only the last one is not full."""
    queue, calls = CallQueue("fake", budget), [Call(np.arange(n, dtype=np.float64)[:, None]) for n in sizes]
    for call in calls:
        queue.add(call)
    n_rows = []
    while batch := queue.take():
        n_rows.append(sum(len(part.rows) for part in batch))
        for part in batch:
            part.call.store(part.start, part.rows.astype(np.float32))
    assert n_rows[:-1] == [budget] * (len(n_rows) - 1)
    assert sum(n_rows) == sum(sizes)
    for call in calls:
        np.testing.assert_array_equal(call.result(), call.rows)
