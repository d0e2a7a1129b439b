"""The rows that one request wants encoded: how many are under way, and the features that came back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.client import Client

Features = NDArray[np.float32]


class Job:
    """Rows in, features or one error out. Not thread-safe: whoever holds it holds its queue's lock.

    Args:
        rows: [n, ...], n >= 1.
        client: who waits for them, if that is known.
        row_cost: what one row counts towards a batch's budget.
    """

    def __init__(self, rows: NDArray[Any], client: Client | None = None, row_cost: int = 1) -> None:
        self.rows = rows
        self.row_cost = row_cost
        self._client = client
        self._n_taken = 0
        self._n_encoded = 0
        self._features: dict[int, Features] = {}
        self._error: Exception | None = None

    @property
    def n_waiting(self) -> int:
        """Rows that no batch has taken; none are once the job has failed."""
        return 0 if self._error else len(self.rows) - self._n_taken

    @property
    def is_done(self) -> bool:
        """Whether `result` has an answer."""
        return self._error is not None or self._n_encoded == len(self.rows)

    @property
    def is_unwanted(self) -> bool:
        """Whether its client has gone."""
        return self._client is not None and self._client.is_gone

    def take(self, n_rows: int) -> Part:
        """The next rows, at most n_rows, for a batch."""
        start = self._n_taken
        self._n_taken = min(start + n_rows, len(self.rows))
        return Part(self, start, self.rows[start : self._n_taken])

    def encoded(self, start: int, features: Features) -> None:
        """Features [n, dim] of the rows from start on. Parts may come back in any order."""
        self._features[start] = features
        self._n_encoded += len(features)

    def fail(self, error: Exception) -> None:
        """End the job; its other rows are not run, and what comes back of them doesn't count."""
        self._error = self._error or error

    def result(self) -> Features:
        """Features [n, dim] in the order of the rows; raises what the job failed with."""
        if self._error is not None:
            raise self._error
        parts = [self._features[start] for start in sorted(self._features)]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)


@dataclass(frozen=True)
class Part:
    """Some rows of a job, in one batch."""

    job: Job
    start: int
    rows: NDArray[Any]
    """[n, ...]: the job's rows from start on."""
