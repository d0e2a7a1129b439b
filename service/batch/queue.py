"""The queue of one encoder: calls of several requests, and which of their rows form the next batch."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.cancellation import CancellationToken, WorkCancelled

Features = NDArray[np.float32]

# A run of a single row is dearer a row (ViT-B/32 in 8 bits: 21 ms, 17 of two): only for idle processors.
_FEWEST_ROWS = 2


class Call:
    """The rows of one call of an encoder, then their features or an error.

    Guarded by the lock of the queue's owner.

    Args:
        rows: Input [n, ...], n >= 1.
        token: Cancels the rows that are in no batch yet; None where nothing can cancel them.
        row_cost: Cost of one row, in the unit of the budget of a batch.
    """

    def __init__(self, rows: NDArray[Any], token: CancellationToken | None = None, row_cost: int = 1) -> None:
        self.rows = rows
        self.row_cost = row_cost
        self._token = token
        self._n_taken = 0
        self._n_encoded = 0
        self._features: dict[int, Features] = {}
        self._error: Exception | None = None

    @property
    def n_waiting(self) -> int:
        """Rows that are in no batch yet; 0 once the call has failed."""
        return 0 if self._error else len(self.rows) - self._n_taken

    @property
    def is_done(self) -> bool:
        """Whether `result` can be called."""
        return self._error is not None or self._n_encoded == len(self.rows)

    @property
    def is_cancelled(self) -> bool:
        """Whether nobody needs the result any more."""
        return self._token is not None and self._token.is_cancelled

    def take(self, n_rows: int) -> Part:
        """Move the next rows, at most n_rows, to a batch."""
        start = self._n_taken
        self._n_taken = min(start + n_rows, len(self.rows))
        return Part(self, start, self.rows[start : self._n_taken])

    def store(self, start: int, features: Features) -> None:
        """Store the features [n, dim] of the rows from start on. Parts may arrive in any order."""
        self._features[start] = features
        self._n_encoded += len(features)

    def fail(self, error: Exception) -> None:
        """End the call with its first error: queued rows are not run, and later features are ignored."""
        self._error = self._error or error

    def result(self) -> Features:
        """Features [n, dim] in the order of the rows; raises the error that the call failed with."""
        if self._error is not None:
            raise self._error
        parts = [self._features[start] for start in sorted(self._features)]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)


@dataclass(frozen=True)
class Part:
    """Rows of one call that are in one batch.

    Attributes:
        call: The call.
        start: Index of the first of these rows in the call.
        rows: Input [n, ...].
    """

    call: Call
    start: int
    rows: NDArray[Any]


class CallQueue:
    """Round-robin queue of calls, one batch a turn. Not thread-safe.

    A call that filled a whole batch goes behind all calls that arrived before the next batch is taken. A call
    whose rows only filled the space that another left in a batch keeps its place: that was not its turn. So a
    call waits for at most one batch of each call before it, and a small request overtakes the rest of a large
    one.

    Args:
        name: Name of the encoder, reported with cancelled work.
        budget: Maximum total cost of the rows of one batch. A single row is taken whatever it costs.
    """

    def __init__(self, name: str, budget: int) -> None:
        self._name = name
        self._budget = budget
        self._calls: deque[Call] = deque()
        self._had_its_turn: Call | None = None

    @property
    def n_rows(self) -> int:
        """Rows that are in no batch yet."""
        return sum(call.n_waiting for call in self._calls)

    def add(self, call: Call) -> None:
        """Queue a call behind all others."""
        self._calls.append(call)

    def take(self, n_shares: int = 1) -> list[Part]:
        """The next batch: rows of one shape, within the budget, of the calls at the head of the queue.

        Empty when no rows are queued. Cancelled calls are ended here with WorkCancelled.

        Args:
            n_shares: Batches that may run at once. Each takes its share of the cost that is still queued, so
                that they become smaller and end at about the same time, whatever they began beside (guided
                self-scheduling: Polychronopoulos and Kuck, 1987); two rows at least, unless there are more
                shares than rows.
        """
        self._drop_cancelled()
        if not self._calls:
            return []
        # Rotated only now, not right after its turn, so that it also goes behind calls that arrived since.
        if self._calls[0] is self._had_its_turn:
            self._calls.rotate(-1)
        waiting = sum(call.n_waiting * call.row_cost for call in self._calls)
        first = self._calls[0]
        fewest = _FEWEST_ROWS if n_shares <= self.n_rows else 1
        room = min(self._budget, max(math.ceil(waiting / n_shares), fewest * first.row_cost))
        batch: list[Part] = []
        # An array holds rows of one shape only; calls with another shape keep their places.
        for call in [one for one in self._calls if one.rows.shape[1:] == first.rows.shape[1:]]:
            # A first row that costs more than the budget still has to run: alone.
            n_rows = room // call.row_cost or int(not batch)
            if n_rows == 0:
                break
            batch.append(call.take(n_rows))
            room -= len(batch[-1].rows) * call.row_cost
        self._calls = deque(call for call in self._calls if call.n_waiting)
        self._had_its_turn = first if first.n_waiting else None
        return batch

    def _drop_cancelled(self) -> None:
        for call in self._calls:
            if call.is_cancelled:
                call.fail(WorkCancelled(self._name))
        self._calls = deque(call for call in self._calls if call.n_waiting)
