"""The interface of a store that keeps jobs."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Protocol

from service.jobs.folder import JobFolder
from service.jobs.job import Claim, Delivery, Job, JobClip, NewJob, Outcome, Usage, WebhookEnd


class JobStore(Protocol):
    """Keeps jobs, their clips and their results durably.

    Attributes:
        folder: Where the clips are.

    Every method is thread-safe; a change is applied whole or not at all, and survives the end of the process.
    Methods that take the id of a job raise UnknownJobError when there is none.
    """

    folder: JobFolder

    def create(self, new: NewJob, clips: Path, now: datetime) -> tuple[Job, bool]:
        """Keep a new job; the flag says that it is new.

        Args:
            new: The job.
            clips: Folder on the same file system with the files `0`, `1`, ..., which is moved into the store;
                a clip at a URL has no file yet.
            now: The time.

        Returns:
            The job; one that the owner has made with the same idempotency key before, whatever is in `clips`.

        Raises:
            OverloadedError: There are as many jobs, or as many bytes of them, as there may be.
            QuotaExceededError: The owner has as many as it may have.
        """

    def find(self, owner: str, idempotency_key: str) -> Job | None:
        """The job that an owner has made with an idempotency key; None for one that has expired, too."""

    def check_room(self, owner: str, max_owned: int | None) -> None:
        """Check, before the clips of a job arrive, that it could be kept now; `create` checks it again.

        Args:
            owner: Id of the API key.
            max_owned: Maximum number of jobs that the owner may have; None: any.

        Raises:
            OverloadedError, QuotaExceededError: As `create` does.
        """

    def get(self, job_id: str) -> Job:
        """One job."""

    def page(self, owner: str | None, before: str, limit: int) -> list[Job]:
        """Up to limit jobs, the latest first, of one owner or of all (None), whose ids sort before `before`.

        An empty `before` begins with the latest.
        """

    def clips(self, job_id: str, since: int = -1) -> list[JobClip]:
        """Clips of a job by index; those finished after a version of the job, in the order of their end."""

    def outcome(self, job_id: str, index: int) -> Outcome | None:
        """What has become of a clip; None: nothing yet, it was cancelled, or it has expired."""

    def lead(self) -> bool:
        """Try to become the process that works on the jobs; whether this one is it.

        Whoever becomes it takes up what the one before has left behind: its clips are queued again.
        """

    def claim(self, now: datetime) -> Claim | None:
        """Begin the next clip, owners taking turns; None: there is nothing to do.

        An owner whose jobs have all ended comes behind the others with its next one, as after a turn, so that
        it gains nothing by deleting them.
        """

    def finish(self, claim: Claim, outcome: Outcome, now: datetime) -> Job | None:
        """Keep the outcome of a clip, whose file goes; None: the job was cancelled meanwhile.

        Raises:
            OverloadedError: An answer would be more bytes than all jobs may take. A problem is always kept.
        """

    def release(self, claim: Claim, *, is_tried: bool) -> None:
        """Queue a clip again; whether the attempt counts."""

    def cancel(self, job_id: str, now: datetime) -> Job:
        """End a job that has not ended; the outcomes that there are stay."""

    def delete(self, job_id: str) -> None:
        """Forget a job."""

    def unwanted(self, job_ids: Sequence[str]) -> set[str]:
        """Which of these jobs are not worked on any more."""

    def expire(self, now: datetime) -> list[str]:
        """Remove what has expired; the ids of jobs that changed."""

    def claim_webhooks(self, now: datetime, limit: int, sending: Sequence[str]) -> list[Delivery]:
        """Begin to send reports that are due: those that were sent least often, the longest due first.

        Owners with fewer reports under way come before others, so that the receivers of one, which may hang,
        hold up the reports of others for one time-out at most. Each counts as sent, and is due again after a
        pause that grows with each attempt, unless its end is kept before. So no report is sent again and
        again while the store can be read but not written.

        Args:
            now: The time.
            limit: Maximum number of them.
            sending: Owners of those that are under way, each as often as it has some.
        """

    def finish_webhook(self, job_id: str, end: WebhookEnd) -> None:
        """Keep how the sending of a report has ended; its secret is forgotten.

        Does nothing where the job is gone.
        """

    def usage(self) -> Usage:
        """What all jobs take now."""

    def check(self) -> None:
        """Raise StoreUnavailableError when the store can't answer now."""

    def close(self) -> None:
        """Release what the store holds."""
