"""Encoders that tests hold and let go, and an observer that writes down what it is told."""

from __future__ import annotations

import threading
from concurrent.futures import Executor
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from service.batch import turns
from service.batch.batched import Batched, unit_cost

WAIT_S = 30.0


class HeldEncoder:
    """Doubles its rows, [n, 1] or [n, length]; a run begins at once and ends when the test lets it.

    Rows with a negative number can't be encoded.
    """

    provider = "CPUExecutionProvider"

    def __init__(self, *, held: bool = True) -> None:
        self.batches: list[list[float]] = []
        """first number of every row, of each batch in the order begun."""
        self._held = held
        self._begun = threading.Semaphore(0)
        self._may_end = threading.Semaphore(0)

    def __call__(self, **inputs: NDArray[Any]) -> NDArray[np.float32]:
        """Run a batch of rows given as `rows`."""
        rows = inputs["rows"]
        self.batches.append([float(number) for number in rows[:, 0]])
        self._begun.release()
        if self._held and not self._may_end.acquire(timeout=WAIT_S):
            raise TimeoutError("the test never let this run end")
        if (rows < 0).any():
            raise RuntimeError(f"can't encode {rows.min()}")
        return (2 * rows[:, :1]).astype(np.float32)

    def wait_for_run(self) -> None:
        """Until one more run has begun."""
        assert self._begun.acquire(timeout=WAIT_S)

    def end_runs(self, n: int = 1) -> None:
        """Let n runs end, those that have not begun yet included."""
        self._may_end.release(n)


class Notes:
    """An observer; `wait_for_rows` waits until so many rows are waiting."""

    def __init__(self) -> None:
        self.n_waiting = 0
        self.most_waiting = 0
        self.n_looks = 0
        """how often a caller or a helper came to look at the queue, or added to it."""
        self.ran: list[int] = []
        self._changed = threading.Condition()

    def rows_waiting(self, encoder: str, change: int) -> None:
        """See Observer."""
        assert encoder == "fake"
        with self._changed:
            self.n_looks += 1
            self.n_waiting += change
            self.most_waiting = max(self.most_waiting, self.n_waiting)
            self._changed.notify_all()

    def batch_ran(self, encoder: str, n_rows: int) -> None:
        """See Observer."""
        assert encoder == "fake"
        with self._changed:
            self.ran.append(n_rows)

    def wait_for_rows(self, n: int) -> None:
        """Until exactly n rows are waiting."""
        with self._changed:
            assert self._changed.wait_for(lambda: self.n_waiting == n, WAIT_S), self.n_waiting


def asked_turns(monkeypatch: pytest.MonkeyPatch) -> threading.Semaphore:
    """Released for each thread that has its turn, or its place in the line."""
    asked = threading.Semaphore(0)

    class Telling(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            asked.release()
            return super().wait(timeout)

    monkeypatch.setattr(turns, "threading", SimpleNamespace(Event=Telling, Lock=threading.Lock))
    return asked


def batched_fake(
    encoder: HeldEncoder,
    notes: Notes,
    *,
    budget: int = 4,
    n_runs: int = 1,
    helpers: Executor | None = None,
) -> Batched:
    """The encoder behind a queue of small batches."""
    return Batched(
        encoder, "fake", budget=budget, n_runs=n_runs, row_cost=unit_cost, observer=notes, helpers=helpers
    )


def rows_of(*numbers: float) -> NDArray[np.float32]:
    """Rows [n, 1]."""
    return np.array(numbers, np.float32)[:, None]
