"""The jobs as requests reach them: their store, whose they are, and who waits for a change."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime

from service.api.guard.guarded_store import current_requester
from service.api.intake.upload_folder import UploadFolder
from service.api.jobs.webhooks import WebhookSender
from service.cancellation import CancellationToken
from service.errors import OverloadedError
from service.jobs.changes import found_job
from service.jobs.job import JOB_ID, Job, Usage
from service.jobs.store import JobStore

# Event streams are open for as long as their job lasts, each with a connection of its own.
_MAX_WATCHERS = 128


def now() -> datetime:
    """The time."""
    return datetime.now(UTC)


class JobBoard:
    """What routes and the runner share. Used on the event loop, and by it only, but for the store.

    Args:
        store: Keeps the jobs.
        arriving: Where clips go until their job is stored, on the same file system.
        sender: Sends webhooks; None: not allowed.
        clock: The time.

    Attributes:
        added: Set when there may be something to do.
        running: The clips that are worked on here, by job and index, and what ends the work on each.
        is_closing: Whether the service is about to end, and event streams with it.
    """

    def __init__(
        self,
        store: JobStore,
        arriving: UploadFolder,
        sender: WebhookSender | None = None,
        clock: Callable[[], datetime] = now,
    ) -> None:
        self.store = store
        self.arriving = arriving
        self.sender = sender
        self.clock = clock
        self.added = asyncio.Event()
        self.running: dict[tuple[str, int], CancellationToken] = {}
        self.is_closing = False
        self._watchers: dict[str, set[asyncio.Event]] = {}

    def visible(self, job_id: str) -> Job:
        """A job that the requester may see: its own, or any for an admin key and where no key is needed.

        Raises:
            UnknownJobError: There is none, or it is somebody else's, which is not told apart.
        """
        key = current_requester.get().key
        job = self.store.get(job_id) if re.fullmatch(JOB_ID, job_id) else None
        is_seen = job is not None and (key is None or key.permits("admin") or key.id == job.owner)
        return found_job(job if is_seen else None)

    def usage(self) -> Usage:
        """What all jobs take now, those included that arrive at other processes; called in threads."""
        n_arriving = self.arriving.n_bytes_of_others()
        usage = self.store.usage()
        return replace(usage, n_bytes=usage.n_bytes + n_arriving)

    @contextmanager
    def watching(self, job_id: str) -> Iterator[asyncio.Event]:
        """An event that is set whenever a job may have changed.

        Raises:
            OverloadedError: Too many watch already.
        """
        if sum(map(len, self._watchers.values())) >= _MAX_WATCHERS:
            raise OverloadedError(
                "Too many event streams are open; ask for the job itself from time to time."
            )
        event = asyncio.Event()
        own = self._watchers.setdefault(job_id, set())
        own.add(event)
        try:
            yield event
        finally:
            own.discard(event)
            if not own and self._watchers.get(job_id) is own:
                del self._watchers[job_id]

    def stop(self, job_id: str) -> None:
        """End the work on a job that was cancelled or deleted."""
        for (running_id, _), token in self.running.items():
            if running_id == job_id:
                token.cancel("cancelled")
        self.changed(job_id)

    def changed(self, job_id: str) -> None:
        """Wake those who watch a job."""
        for event in self._watchers.get(job_id, ()):
            event.set()

    def look_again(self) -> None:
        """Wake everyone: another process may have changed something."""
        self.added.set()
        for job_id in self._watchers:
            self.changed(job_id)

    def end_streams(self) -> None:
        """End all event streams, whose clients come back; else a shutdown would wait for them."""
        self.is_closing = True
        self.look_again()
