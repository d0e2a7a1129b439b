"""An encoder that many threads call at once, and that runs what they wait for together."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from service.batch.queue import Features, Job, Part, Turns
from service.cancellation import served_client
from service.encode.encoders import Encoder

RowCost = Callable[[NDArray[Any]], int]


class Observer(Protocol):
    """Is told what goes on; from several threads, so it must be quick and thread-safe."""

    def rows_waiting(self, encoder: str, change: int) -> None:
        """So many more rows wait for the encoder, or fewer."""

    def batch_ran(self, encoder: str, n_rows: int) -> None:
        """A batch of so many rows was run."""


def one_each(rows: NDArray[Any]) -> int:
    """Every row costs one: frames and windows, which are all alike."""
    del rows
    return 1


def its_length(rows: NDArray[Any]) -> int:
    """A row costs as much as it is long: tokens [n, length]."""
    return int(rows.shape[1])


class Batched:
    """Called as the encoder itself is, and gives what it gives.

    Work-conserving: as soon as the encoder is free it takes what is waiting, and never waits for more. A
    caller that finds the encoder free runs the next batch, whoever's rows are in it, until its own are
    encoded; then one of those that still wait goes on. Where a run has one processor, free runs share what
    waits: helpers, which other encoders may use too, take a part each. Nothing has to be shut down.

    Args:
        encoder: takes one input [n, ...], each row encoded for itself.
        name: for the observer and for work that is dropped.
        budget: most that the rows of one batch may cost together.
        n_runs: batches that may run at once. With two, one is put together while the other runs.
        row_cost: what a row of such rows costs.
        observer: is told what goes on.
        helpers: threads that run parts of what a lone caller brings; None where one run is as fast as the
            device is.
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
    ) -> None:
        self._encoder = encoder
        self._name = name
        self._n_free = n_runs
        self._row_cost = row_cost
        self._observer = observer
        self._helpers = helpers
        self._turns = Turns(name, budget)
        self._n_reported = 0
        # Guards all of the above; told when a run has ended or work was dropped.
        self._changed = threading.Condition()

    @property
    def provider(self) -> str:
        """The execution provider that runs the graph, as onnxruntime names it."""
        return self._encoder.provider

    def __call__(self, **inputs: NDArray[Any]) -> Features:
        """Encode rows [n, ...], n >= 1, given under the input's name; returns float32 [n, dim].

        Raises:
            ClientGone: the client left before all its rows were run.
        """
        ((input_name, rows),) = inputs.items()
        job = Job(rows, served_client(), self._row_cost(rows))
        with self._changed:
            self._turns.add(job)
            self._report()
            while not job.is_done:
                batch = self._next_batch(input_name) if self._n_free else []
                if batch:
                    self._run(input_name, batch)
                elif not job.is_done:
                    self._changed.wait()
        return job.result()

    def _help(self, input_name: str) -> None:
        """Run what waits, for as long as the encoder is free."""
        with self._changed:
            while self._n_free and (batch := self._next_batch(input_name)):
                self._run(input_name, batch)

    def _next_batch(self, input_name: str) -> list[Part]:
        batch = self._turns.take(1 if self._helpers is None else self._n_free)
        if self._helpers is not None:
            with contextlib.suppress(RuntimeError):  # no more threads to be had: then without help
                for _ in range(min(self._n_free - 1, self._turns.n_rows)):
                    self._helpers.submit(self._help, input_name)
        self._report()
        # Taking a batch drops the work of clients that have gone; their threads need not wait for its end.
        self._changed.notify_all()
        return batch

    def _run(self, input_name: str, batch: Sequence[Part]) -> None:
        """Run a batch and hand out its features. The lock is held before and after, but not meanwhile."""
        self._n_free -= 1
        self._changed.release()
        try:
            outcomes = self._outcomes(input_name, batch)
        finally:
            self._changed.acquire()
            self._n_free += 1
            self._changed.notify_all()
        for part, outcome in zip(batch, outcomes, strict=True):
            if isinstance(outcome, Exception):
                part.job.fail(outcome)
            else:
                part.job.encoded(part.start, outcome)
        self._report()

    def _report(self) -> None:
        change = self._turns.n_rows - self._n_reported
        self._n_reported += change
        self._observer.rows_waiting(self._name, change)

    def _outcomes(self, input_name: str, batch: Sequence[Part]) -> Sequence[Features | Exception]:
        """Features or error of each part. A batch that fails is run part by part, so that one fails alone."""
        try:
            rows = batch[0].rows if len(batch) == 1 else np.concatenate([part.rows for part in batch])
            features = self._encoder(**{input_name: rows})
        except Exception as error:  # noqa: BLE001  (it is raised again, in the thread of whose rows they are)
            if len(batch) == 1:
                return [error]
            return [self._outcomes(input_name, [part])[0] for part in batch]
        self._observer.batch_ran(self._name, len(rows))
        return np.split(features, np.cumsum([len(part.rows) for part in batch])[:-1])
