"""Whose rows run next: the jobs that wait for one encoder, in turns, so that a large one holds up nobody."""

from __future__ import annotations

import math
from collections import deque

from service.batch.job import Job, Part
from service.client import ClientGone


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
