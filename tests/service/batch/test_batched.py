"""Many threads call one encoder. Every step waits for an event, none for time."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from service.batch.batched import Batched, length_cost
from service.cancellation import CancellationToken, WorkCancelled
from tests.service.batch.fakes import WAIT_S, HeldEncoder, Notes, batched_fake, rows_of


class _HeldBySize(HeldEncoder):
    """Holds only batches of some sizes; `let_end` lets those of one size end."""

    def __init__(self, *sizes: int) -> None:
        super().__init__(held=False)
        self._gates = {size: threading.Event() for size in sizes}

    def __call__(self, **inputs: NDArray[Any]) -> NDArray[np.float32]:
        """See HeldEncoder."""
        doubled = super().__call__(**inputs)
        gate = self._gates.get(len(doubled))
        if gate is not None and not gate.wait(WAIT_S):
            raise TimeoutError("the test never let this run end")
        return doubled

    def let_end(self, size: int) -> None:
        """Let all batches of so many rows end, later ones too."""
        self._gates[size].set()


class _Callers:
    """Threads that each ask for some rows."""

    def __init__(self, threads: ThreadPoolExecutor, encoder: Batched, notes: Notes) -> None:
        self._threads, self._encoder, self._notes = threads, encoder, notes

    def ask(self, *numbers: float, token: CancellationToken | None = None) -> Future[NDArray[np.float32]]:
        """A caller of its own, which waits for an answer."""

        def call() -> NDArray[np.float32]:
            with (token or CancellationToken()).active():
                return self._encoder(rows=rows_of(*numbers))

        return self._threads.submit(call)

    def ask_behind(
        self, *numbers: float, token: CancellationToken | None = None
    ) -> Future[NDArray[np.float32]]:
        """The same, returning when its rows wait: the encoder must be busy."""
        n_before = self._notes.n_waiting
        future = self.ask(*numbers, token=token)
        self._notes.wait_for_rows(n_before + len(numbers))
        return future


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    """More than any test has callers."""
    with ThreadPoolExecutor(16) as pool:
        yield pool


def _numbers(future: Future[NDArray[np.float32]]) -> list[float]:
    return [float(number) for number in future.result(WAIT_S)[:, 0]]


def test_rows_queued_during_a_run_form_the_next_batch(threads: ThreadPoolExecutor) -> None:
    """A free encoder starts at once, even with one row; then it takes everything that is queued."""
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


def test_a_lone_caller_runs_its_own_rows(threads: ThreadPoolExecutor) -> None:
    """They run in its own thread, in batches within the budget; the features are in the order of the rows."""
    encoder, notes = HeldEncoder(held=False), Notes()
    del threads
    found = batched_fake(encoder, notes)(rows=rows_of(*range(10)))
    np.testing.assert_array_equal(found, 2 * rows_of(*range(10)))
    assert encoder.batches == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


def test_a_small_request_overtakes_the_rest_of_a_large_one(threads: ThreadPoolExecutor) -> None:
    """The small request is answered while rows of the large one are still queued."""
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


def test_a_row_that_fails_does_not_fail_the_rest_of_its_batch(threads: ThreadPoolExecutor) -> None:
    """The other callers get their features; the one with the bad row gets the error of the encoder."""
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


def test_a_large_call_that_fails_ends_at_once(threads: ThreadPoolExecutor) -> None:
    """Its other rows are not run and no longer count as waiting; the encoder serves the next caller."""
    encoder, notes = HeldEncoder(held=False), Notes()
    queue = batched_fake(encoder, notes)
    with pytest.raises(RuntimeError, match="can't encode"):
        queue(rows=rows_of(1, -1, *range(20)))
    assert encoder.batches == [[1, -1, 0, 1]]
    assert notes.n_waiting == 0
    assert _numbers(_Callers(threads, queue, notes).ask(7)) == [14]


def test_an_encoder_that_returns_too_few_rows_is_an_error(threads: ThreadPoolExecutor) -> None:
    """Callers once waited for the missing rows for ever."""

    class Short(HeldEncoder):
        def __call__(self, **inputs: NDArray[Any]) -> NDArray[np.float32]:
            return super().__call__(**inputs)[:-1]

    waiting = threads.submit(batched_fake(Short(held=False), Notes()), rows=rows_of(1, 2, 3))
    with pytest.raises(RuntimeError, match="returned 2 rows for 3"):
        waiting.result(WAIT_S)


def test_cancelled_rows_are_not_run(threads: ThreadPoolExecutor) -> None:
    """Rows of other clients in the same queue are not affected."""
    encoder, notes, token = HeldEncoder(), Notes(), CancellationToken()
    callers = _Callers(threads, batched_fake(encoder, notes), notes)
    first = callers.ask(1)
    encoder.wait_for_run()
    left, stayed = callers.ask_behind(2, 3, token=token), callers.ask_behind(4)
    token.cancel()
    encoder.end_runs(2)
    assert [_numbers(one) for one in (first, stayed)] == [[2], [8]]
    with pytest.raises(WorkCancelled) as cancelled:
        left.result(WAIT_S)
    assert cancelled.value.stage == "fake"
    assert encoder.batches == [[1], [4]]


def test_all_cancelled_callers_return(threads: ThreadPoolExecutor) -> None:
    """None of their rows is run, none of their threads hangs, and the encoder serves the next caller."""
    encoder, notes, token = HeldEncoder(), Notes(), CancellationToken()
    callers = _Callers(threads, batched_fake(encoder, notes), notes)
    running = callers.ask(1, token=token)
    encoder.wait_for_run()
    waiting = [callers.ask_behind(number, token=token) for number in (2, 3, 4)]
    token.cancel()
    encoder.end_runs()
    assert _numbers(running) == [2]  # its last rows were under way already
    assert all(isinstance(one.exception(WAIT_S), WorkCancelled) for one in waiting)
    encoder.end_runs()
    assert _numbers(callers.ask(5)) == [10]
    assert encoder.batches == [[1], [5]]


def test_two_batches_run_at_once(threads: ThreadPoolExecutor) -> None:
    """One call may be in both; its features are in order whichever batch ends first."""
    encoder, notes = HeldEncoder(), Notes()
    callers = _Callers(threads, batched_fake(encoder, notes, budget=2, n_runs=2), notes)
    large = callers.ask(1, 2, 3, 4, 5)
    encoder.wait_for_run()
    helper = callers.ask(6)
    encoder.wait_for_run()  # while the first run is still held
    encoder.end_runs(20)
    assert _numbers(large) == [2, 4, 6, 8, 10]
    assert _numbers(helper) == [12]


def test_callers_whose_rows_are_running_leave_a_free_run_alone(threads: ThreadPoolExecutor) -> None:
    """They would wake each other as long as the batch with their rows runs, at the cost of a processor."""
    encoder, notes = _HeldBySize(1, 2, 3), Notes()
    callers = _Callers(threads, batched_fake(encoder, notes, n_runs=2), notes)
    first = callers.ask(1)
    encoder.wait_for_run()
    second = callers.ask(2, 3)
    encoder.wait_for_run()
    sharing = [callers.ask_behind(number) for number in (4, 5, 6)]
    encoder.let_end(1)
    encoder.wait_for_run()
    assert sorted(encoder.batches[2]) == [4, 5, 6]
    encoder.let_end(2)
    assert (_numbers(first), _numbers(second)) == ([2], [4, 6])
    n_before = notes.n_looks
    for _ in range(200):  # time for other threads
        threads.submit(int).result(WAIT_S)
    # The end of the second run woke both of them, once.
    assert notes.n_looks - n_before <= 2
    encoder.let_end(3)
    assert [_numbers(one) for one in sharing] == [[8], [10], [12]]


def test_free_runs_share_the_rows_of_a_lone_caller(threads: ThreadPoolExecutor) -> None:
    """A helper runs one half while the caller runs the other; batches become smaller towards the end."""
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
        assert encoder.batches[2] == [5, 6]
        encoder.end_runs(1)
        encoder.wait_for_run()
        assert encoder.batches[3] == [7]
        encoder.end_runs(2)
        assert _numbers(alone) == [2, 4, 6, 8]
        assert _numbers(waiting) == [10, 12, 14]


def test_a_caller_runs_everything_when_no_helper_thread_can_start() -> None:
    """A container may be at its limit of threads."""

    class NoThreads(ThreadPoolExecutor):
        def submit(self, *_: Any, **__: Any) -> Any:
            raise RuntimeError("can't start new thread")

    encoder, notes = HeldEncoder(held=False), Notes()
    queue = batched_fake(encoder, notes, n_runs=2, helpers=NoThreads(1))
    np.testing.assert_array_equal(queue(rows=rows_of(1, 2, 3)), 2 * rows_of(1, 2, 3))
    assert notes.n_waiting == 0


def test_an_error_in_a_helper_is_raised_in_the_caller(threads: ThreadPoolExecutor) -> None:
    """The helper thread survives."""
    encoder, notes = HeldEncoder(), Notes()
    with ThreadPoolExecutor(1) as helpers:
        callers = _Callers(threads, batched_fake(encoder, notes, n_runs=2, helpers=helpers), notes)
        for _ in range(3):
            bad = callers.ask(1, 3, -2, -2)
            encoder.wait_for_run()
            encoder.wait_for_run()
            encoder.end_runs(2)
            with pytest.raises(RuntimeError, match="can't encode -2"):
                bad.result(WAIT_S)
    assert notes.n_waiting == 0
    assert notes.ran == [2, 2, 2]


def test_the_number_of_callers_bounds_the_queue(threads: ThreadPoolExecutor) -> None:
    """A caller blocks until its rows are encoded."""
    encoder, notes = HeldEncoder(held=False), Notes()
    callers = _Callers(threads, batched_fake(encoder, notes), notes)
    futures = [callers.ask(number, number + 0.5) for number in range(400)]
    assert [_numbers(one) for one in futures] == [[2.0 * n, 2.0 * n + 1] for n in range(400)]
    assert 0 < notes.most_waiting <= 2 * 16
    assert notes.n_waiting == 0
    assert sum(notes.ran) == 800


def test_shutting_down_the_callers_finishes_their_queued_rows() -> None:
    """Nothing else has to be shut down."""
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


def test_the_cost_of_token_rows_is_their_length() -> None:
    """With a budget of 12 tokens, rows [n, 5] run two at a time."""
    encoder: Any = HeldEncoder(held=False)
    queue = Batched(encoder, "fake", budget=12, n_runs=1, row_cost=length_cost, observer=Notes())
    queue(rows=np.arange(25.0).reshape(5, 5))
    assert encoder.batches == [[0, 5], [10, 15], [20]]
