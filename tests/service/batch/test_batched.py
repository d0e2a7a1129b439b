"""Many threads call one encoder. Every step waits for an event, none for time."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from service.batch.batched import Batched, its_length
from service.cancellation import Client, ClientGone
from tests.service.batch.fakes import WAIT_S, HeldEncoder, Notes, batched_fake, rows_of


class _Callers:
    """Threads that each ask for some rows."""

    def __init__(self, threads: ThreadPoolExecutor, encoder: Batched, notes: Notes) -> None:
        self._threads, self._encoder, self._notes = threads, encoder, notes

    def ask(self, *numbers: float, client: Client | None = None) -> Future[NDArray[np.float32]]:
        """A caller of its own, which waits for an answer."""

        def call() -> NDArray[np.float32]:
            with (client or Client()).served():
                return self._encoder(rows=rows_of(*numbers))

        return self._threads.submit(call)

    def ask_behind(self, *numbers: float, client: Client | None = None) -> Future[NDArray[np.float32]]:
        """The same, returning when its rows wait: the encoder must be busy."""
        n_before = self._notes.n_waiting
        future = self.ask(*numbers, client=client)
        self._notes.wait_for_rows(n_before + len(numbers))
        return future


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    """More than any test has callers."""
    with ThreadPoolExecutor(16) as pool:
        yield pool


def _numbers(future: Future[NDArray[np.float32]]) -> list[float]:
    return [float(number) for number in future.result(WAIT_S)[:, 0]]


def test_what_came_while_the_encoder_was_busy_runs_together(threads: ThreadPoolExecutor) -> None:
    """A free encoder starts at once, with one row too; then it takes all that waits."""
    encoder, notes = HeldEncoder(), Notes()
    callers = _Callers(threads, batched_fake(encoder, notes), notes)
    first = callers.ask(1)
    encoder.wait_for_run()
    others = [callers.ask_behind(2), callers.ask_behind(3), callers.ask_behind(4, 5)]
    encoder.end_runs(2)
    assert _numbers(first) == [2]
    assert [_numbers(other) for other in others] == [[4], [6], [8, 10]]
    assert encoder.batches == [[1], [2, 3, 4, 5]]
    assert notes.ran == [1, 4]
    assert notes.n_waiting == 0


def test_a_caller_alone_waits_for_nobody(threads: ThreadPoolExecutor) -> None:
    """It runs its rows in its own thread, in batches of the budget; the answer is in order."""
    encoder, notes = HeldEncoder(held=False), Notes()
    del threads
    found = batched_fake(encoder, notes)(rows=rows_of(*range(10)))
    np.testing.assert_array_equal(found, 2 * rows_of(*range(10)))
    assert encoder.batches == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


def test_a_small_request_overtakes_the_rest_of_a_large_one(threads: ThreadPoolExecutor) -> None:
    """It has its answer while the large one still waits."""
    encoder, notes = HeldEncoder(), Notes()
    callers = _Callers(threads, batched_fake(encoder, notes), notes)
    large = callers.ask(*range(100, 200))
    encoder.wait_for_run()
    small = callers.ask_behind(1, 2)
    encoder.end_runs(2)
    assert _numbers(small) == [2, 4]
    assert not large.done()
    encoder.end_runs(100)
    assert _numbers(large) == list(range(200, 400, 2))


def test_a_failed_item_fails_alone(threads: ThreadPoolExecutor) -> None:
    """The others of its batch have their features; the failed one has the encoder's own error."""
    encoder, notes = HeldEncoder(), Notes()
    callers = _Callers(threads, batched_fake(encoder, notes), notes)
    first = callers.ask(1)
    encoder.wait_for_run()
    good, bad, also_good = callers.ask_behind(2), callers.ask_behind(-3), callers.ask_behind(4)
    encoder.end_runs(20)
    assert [_numbers(one) for one in (first, good, also_good)] == [[2], [4], [8]]
    with pytest.raises(RuntimeError, match="can't encode -3"):
        bad.result(WAIT_S)
    assert encoder.batches == [[1], [2, -3, 4], [2], [-3], [4]]
    assert notes.ran == [1, 1, 1]


def test_a_large_job_that_fails_ends_at_once(threads: ThreadPoolExecutor) -> None:
    """Its other rows are not run, no longer count as waiting, and the encoder goes on."""
    encoder, notes = HeldEncoder(held=False), Notes()
    queue = batched_fake(encoder, notes)
    with pytest.raises(RuntimeError, match="can't encode"):
        queue(rows=rows_of(1, -1, *range(20)))
    assert encoder.batches == [[1, -1, 0, 1]]
    assert notes.n_waiting == 0
    assert _numbers(_Callers(threads, queue, notes).ask(7)) == [14]


def test_rows_of_a_client_that_left_are_not_run(threads: ThreadPoolExecutor) -> None:
    """The one who left and the one who stays are told apart in the same queue."""
    encoder, notes, leaver = HeldEncoder(), Notes(), Client()
    callers = _Callers(threads, batched_fake(encoder, notes), notes)
    first = callers.ask(1)
    encoder.wait_for_run()
    left, stayed = callers.ask_behind(2, 3, client=leaver), callers.ask_behind(4)
    leaver.leave()
    encoder.end_runs(2)
    assert [_numbers(one) for one in (first, stayed)] == [[2], [8]]
    with pytest.raises(ClientGone) as gone:
        left.result(WAIT_S)
    assert gone.value.waited_for == "fake"
    assert encoder.batches == [[1], [4]]


def test_when_all_have_left_all_are_let_go(threads: ThreadPoolExecutor) -> None:
    """Nothing is run for them, none of their threads is forgotten, and the encoder serves the next."""
    encoder, notes, leaver = HeldEncoder(), Notes(), Client()
    callers = _Callers(threads, batched_fake(encoder, notes), notes)
    running = callers.ask(1, client=leaver)
    encoder.wait_for_run()
    waiting = [callers.ask_behind(number, client=leaver) for number in (2, 3, 4)]
    leaver.leave()
    encoder.end_runs()
    assert _numbers(running) == [2]  # its last rows were under way already
    assert all(isinstance(one.exception(WAIT_S), ClientGone) for one in waiting)
    encoder.end_runs()
    assert _numbers(callers.ask(5)) == [10]
    assert encoder.batches == [[1], [5]]


def test_two_runs_at_once_when_so_asked(threads: ThreadPoolExecutor) -> None:
    """A job may be in both; its rows come back in order whichever ends first."""
    encoder, notes = HeldEncoder(), Notes()
    callers = _Callers(threads, batched_fake(encoder, notes, budget=2, n_runs=2), notes)
    large = callers.ask(1, 2, 3, 4, 5)
    encoder.wait_for_run()
    helper = callers.ask(6)
    encoder.wait_for_run()  # while the first run is still held
    encoder.end_runs(20)
    assert _numbers(large) == [2, 4, 6, 8, 10]
    assert _numbers(helper) == [12]


def test_free_runs_share_the_rows_of_a_lone_caller(threads: ThreadPoolExecutor) -> None:
    """A helper runs one half while the caller runs the other; when one run is busy the other takes all."""
    encoder, notes = HeldEncoder(), Notes()
    with ThreadPoolExecutor(2) as helpers:
        callers = _Callers(threads, batched_fake(encoder, notes, n_runs=2, helpers=helpers), notes)
        alone = callers.ask(1, 2, 3, 4)
        encoder.wait_for_run()
        encoder.wait_for_run()
        assert sorted(encoder.batches) == [[1, 2], [3, 4]]
        waiting = callers.ask_behind(5, 6, 7)
        encoder.end_runs(1)
        encoder.wait_for_run()
        assert encoder.batches[2] == [5, 6, 7]
        encoder.end_runs(2)
        assert _numbers(alone) == [2, 4, 6, 8]
        assert _numbers(waiting) == [10, 12, 14]


def test_without_threads_to_be_had_the_caller_does_it_all() -> None:
    """A container may be at its limit of them."""

    class NoThreads(ThreadPoolExecutor):
        def submit(self, *_: Any, **__: Any) -> Any:
            raise RuntimeError("can't start new thread")

    encoder, notes = HeldEncoder(held=False), Notes()
    queue = batched_fake(encoder, notes, n_runs=2, helpers=NoThreads(1))
    np.testing.assert_array_equal(queue(rows=rows_of(1, 2, 3)), 2 * rows_of(1, 2, 3))
    assert notes.n_waiting == 0


def test_what_fails_in_a_helper_fails_for_its_caller(threads: ThreadPoolExecutor) -> None:
    """The helper itself goes on."""
    encoder, notes = HeldEncoder(), Notes()
    with ThreadPoolExecutor(1) as helpers:
        callers = _Callers(threads, batched_fake(encoder, notes, n_runs=2, helpers=helpers), notes)
        for _ in range(3):
            bad = callers.ask(1, -2)
            encoder.wait_for_run()
            encoder.wait_for_run()
            encoder.end_runs(2)
            with pytest.raises(RuntimeError, match="can't encode -2"):
                bad.result(WAIT_S)
    assert notes.n_waiting == 0
    assert notes.ran == [1, 1, 1]


def test_no_more_waits_than_callers_have_asked_for(threads: ThreadPoolExecutor) -> None:
    """A caller is held until its rows are encoded, so the threads bound the queue."""
    encoder, notes = HeldEncoder(held=False), Notes()
    callers = _Callers(threads, batched_fake(encoder, notes), notes)
    futures = [callers.ask(number, number + 0.5) for number in range(400)]
    assert [_numbers(one) for one in futures] == [[2.0 * n, 2.0 * n + 1] for n in range(400)]
    assert 0 < notes.most_waiting <= 2 * 16
    assert notes.n_waiting == 0
    assert sum(notes.ran) == 800


def test_threads_that_end_with_work_waiting_finish_it_first() -> None:
    """Shutting the callers' pool down is all that a shutdown takes."""
    encoder, notes = HeldEncoder(), Notes()
    pool = ThreadPoolExecutor(4)
    callers = _Callers(pool, batched_fake(encoder, notes), notes)
    first = callers.ask(1)
    encoder.wait_for_run()
    waiting = [callers.ask_behind(number) for number in (2, 3)]
    ending = threading.Thread(target=pool.shutdown)
    ending.start()
    encoder.end_runs(2)
    ending.join(WAIT_S)
    assert not ending.is_alive()
    assert [_numbers(one) for one in (first, *waiting)] == [[2], [4], [6]]


def test_a_budget_of_tokens_counts_lengths() -> None:
    """Rows [n, 5] and a budget of 12 tokens are two rows a batch."""
    encoder: Any = HeldEncoder(held=False)
    queue = Batched(encoder, "fake", budget=12, n_runs=1, row_cost=its_length, observer=Notes())
    queue(rows=np.arange(25.0).reshape(5, 5))
    assert encoder.batches == [[0, 5], [10, 15], [20]]
