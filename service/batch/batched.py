"""Dynamic batching: an encoder that many threads call at once and that runs their rows in shared batches."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from service.batch.queue import Call, CallQueue, Features, Part
from service.cancellation import current_token
from service.encode.encoders import Encoder

RowCost = Callable[[NDArray[Any]], int]
"""Cost of one row of an array of rows, in the unit of the budget of a batch."""


class Observer(Protocol):
    """Receives the figures of the queues. Called from several threads with a lock held: must be quick."""

    def rows_waiting(self, encoder: str, change: int) -> None:
        """Change the number of rows queued for an encoder by `change`."""

    def batch_ran(self, encoder: str, n_rows: int) -> None:
        """Record that an encoder ran a batch of `n_rows` rows."""


def unit_cost(rows: NDArray[Any]) -> int:
    """Cost of a frame or an audio window: 1, since all are of one size."""
    del rows
    return 1


def length_cost(rows: NDArray[Any]) -> int:
    """Cost of a row of tokens [n, length]: its length."""
    return int(rows.shape[1])


class Batched:
    """Wraps an encoder so that concurrent calls share its batches. Same signature, same results.

    There is no scheduler thread. A caller that finds the encoder free takes the next batch from the queue and
    runs it, whoever its rows belong to, until its own rows are encoded; then a caller that still waits goes
    on. So the encoder never idles while rows are queued, a lone caller never waits for a batch to fill up,
    and nothing has to be shut down.

    On a CPU, where a run uses one processor, several runs go in parallel. One caller could only use one of
    them, so helper threads, shared between encoders, run parts of what is queued. The encoders take turns on
    the processors.

    Args:
        encoder: Takes one input [n, ...] and encodes each row independently.
        name: Name for the observer and for cancelled work.
        budget: Maximum total cost of the rows of one batch.
        n_runs: Batches that may run at once. With 2 on a GPU one is assembled while the other runs.
        row_cost: Cost of a row.
        observer: Receives queue lengths and batch sizes.
        helpers: Threads that run parts of the queue; None where one run already uses the whole device.
        turn: Context of a run, which waits until it may begin beside those of other encoders.
    """

    def __init__(
        self,
        encoder: Encoder,
        name: str,
        *,
        budget: int,
        n_runs: int,
        row_cost: RowCost,
        observer: Observer,
        helpers: Executor | None = None,
        turn: Callable[[], contextlib.AbstractContextManager[None]] = contextlib.nullcontext,
    ) -> None:
        self._encoder = encoder
        self._name = name
        self._n_runs = self._n_free = n_runs
        self._turn = turn
        self._row_cost = row_cost
        self._observer = observer
        self._helpers = helpers
        self._queue = CallQueue(name, budget)
        self._n_reported = 0
        # Guards `_n_free`, `_queue`, `_n_reported` and every call. Notified whenever a waiting caller may go
        # on: its call ended, a run became free, or cancelled calls were dropped.
        self._changed = threading.Condition()

    @property
    def provider(self) -> str:
        """The execution provider that runs the graph, as onnxruntime names it."""
        return self._encoder.provider

    def __call__(self, **inputs: NDArray[Any]) -> Features:
        """Encode rows [n, ...], n >= 1, given under the input's name; returns float32 [n, dim].

        Raises:
            WorkCancelled: The request was cancelled before all of its rows were in a batch.
        """
        ((input_name, rows),) = inputs.items()
        call = Call(rows, current_token(), self._row_cost(rows))
        with self._changed:
            self._queue.add(call)
            self._report()
            while not call.is_done:
                batch = self._next_batch(input_name) if self._n_free else []
                if batch:
                    self._run(input_name, batch)
                # Checked again: taking a batch may just have dropped this call as cancelled. The notification
                # for that is already past, so waiting might never end.
                elif not call.is_done:
                    self._changed.wait()
        return call.result()

    def _help(self, input_name: str) -> None:
        """Run batches in a helper thread as long as rows are queued and a run is free."""
        with self._changed:
            while self._n_free and (batch := self._next_batch(input_name)):
                self._run(input_name, batch)

    def _next_batch(self, input_name: str) -> list[Part]:
        """Take the next batch from the queue and wake helpers for the rest. The lock must be held."""
        n_before = self._queue.n_rows
        batch = self._queue.take(1 if self._helpers is None else self._n_runs)
        if self._helpers is not None:
            # Starting a thread fails at the limit of a container; the caller then runs everything itself.
            with contextlib.suppress(RuntimeError):
                # One run is for this batch; helpers beyond the free runs or queued rows would have no work.
                for _ in range(min(self._n_free - 1, self._queue.n_rows)):
                    self._helpers.submit(self._help, input_name)
        self._report()
        # Taking a batch drops cancelled calls; their threads need not wait until this batch has run. Where
        # nothing was queued nobody is woken: two callers whose rows run in one batch would find the other run
        # free, and wake each other until that batch ends.
        if self._queue.n_rows != n_before:
            self._changed.notify_all()
        return batch

    def _run(self, input_name: str, batch: Sequence[Part]) -> None:
        """Run a batch and hand its features to their calls. The lock is released during the run only."""
        self._n_free -= 1
        self._changed.release()
        try:
            with self._turn():
                outcomes = self._outcomes(input_name, batch)
        finally:
            # In any case: the `with` of the caller expects to hold the lock, and the run must be given back.
            self._changed.acquire()
            self._n_free += 1
            # Woken threads run only when the lock is released, so they find the features stored below.
            self._changed.notify_all()
        for part, outcome in zip(batch, outcomes, strict=True):
            if isinstance(outcome, Exception):
                part.call.fail(outcome)
            else:
                part.call.store(part.start, outcome)
        self._report()

    def _report(self) -> None:
        """Tell the observer how the number of queued rows changed. The lock must be held."""
        change = self._queue.n_rows - self._n_reported
        self._n_reported += change
        self._observer.rows_waiting(self._name, change)

    def _outcomes(self, input_name: str, batch: Sequence[Part]) -> Sequence[Features | Exception]:
        """Features or error of each part.

        A batch that fails is run again part by part, so that one bad input does not fail other requests.
        """
        try:
            rows = batch[0].rows if len(batch) == 1 else np.concatenate([part.rows for part in batch])
            features = self._encoder(**{input_name: rows})
            if len(features) != len(rows):  # calls that never get all their rows would wait for ever
                raise RuntimeError(f"{self._name} returned {len(features)} rows for {len(rows)}")
        except Exception as error:  # noqa: BLE001  (raised again in the thread that the rows belong to)
            if len(batch) == 1:
                return [error]
            return [self._outcomes(input_name, [part])[0] for part in batch]
        self._observer.batch_ran(self._name, len(rows))
        return np.split(features, np.cumsum([len(part.rows) for part in batch])[:-1])
