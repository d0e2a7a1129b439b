"""What waits for one encoder: jobs of several requests, and whose rows run next."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.cancellation import Client, ClientGone

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


class Turns:
    """Jobs in the order of their turns. Not thread-safe.

    A turn is worth one batch. A job that had a whole batch goes behind all that came until the next one; a
    job that only filled what another left of a batch keeps its place. So a job waits for at most one batch
    of each job before it.

    Args:
        name: of the encoder, for work that is dropped.
        budget: most that the rows of one batch may cost together; one row always fits.
    """

    def __init__(self, name: str, budget: int) -> None:
        self._name = name
        self._budget = budget
        self._jobs: deque[Job] = deque()
        self._had_its_turn: Job | None = None

    @property
    def n_rows(self) -> int:
        """Rows that wait."""
        return sum(job.n_waiting for job in self._jobs)

    def add(self, job: Job) -> None:
        """Queue a job behind all others."""
        self._jobs.append(job)

    def take(self, n_shares: int = 1) -> list[Part]:
        """The next batch: rows of one shape, within the budget, of the jobs whose turn it is.

        Empty when nothing waits. Jobs whose client has gone end here, with ClientGone.

        Args:
            n_shares: batches that can begin now; this one takes its share of what waits, not all of it.
        """
        self._drop()
        if not self._jobs:
            return []
        if self._jobs[0] is self._had_its_turn:
            self._jobs.rotate(-1)
        waiting = sum(job.n_waiting * job.row_cost for job in self._jobs)
        first, room = self._jobs[0], min(self._budget, math.ceil(waiting / n_shares))
        batch: list[Part] = []
        for job in [one for one in self._jobs if one.rows.shape[1:] == first.rows.shape[1:]]:
            n_rows = room // job.row_cost or int(not batch)
            if n_rows == 0:
                break
            batch.append(job.take(n_rows))
            room -= len(batch[-1].rows) * job.row_cost
        self._jobs = deque(job for job in self._jobs if job.n_waiting)
        self._had_its_turn = first if first.n_waiting else None
        return batch

    def _drop(self) -> None:
        for job in self._jobs:
            if job.is_unwanted:
                job.fail(ClientGone(self._name))
        self._jobs = deque(job for job in self._jobs if job.n_waiting)
