"""Jobs as values: one or many clips with one form, and what has become of each."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Literal

JobState = Literal["queued", "running", "done", "failed", "cancelled", "expired"]
"""
    queued ──► running ──► done        every clip has an answer, or a problem of its own
      │ ▲         │   └──► failed      no clip could be answered
      │ └─────────┤ the service ended, and was started again
      └───────────┴──────► cancelled
    done, failed and cancelled ──► expired: results and files are gone; later the record is too
"""
ClipState = Literal["queued", "running", "done", "failed", "cancelled"]
WebhookState = Literal["waiting", "pending", "delivered", "failed"]
"""waiting for the job's end; pending: to be sent, or sent again; delivered; failed: given up."""
WebhookEnd = Literal["delivered", "failed"]
"""How the sending of a report ends."""

UNFINISHED: tuple[JobState, ...] = ("queued", "running")
MAX_ATTEMPTS = 3
"""How often a clip is begun, if the service ends or a part of it fails while it works on it."""
# Between attempts to report the end of a job; the one after the last pause is the last.
_PAUSES = tuple(timedelta(seconds=one) for one in (5, 60, 600, 3600, 6 * 3600))


@dataclass(frozen=True)
class Job:
    """A job without the content of its clips, fields and results.

    Attributes:
        id: Its name in URLs, hard to guess; later jobs sort behind earlier ones.
        owner: Id of the API key that made it; empty: no key was needed.
        state: Where it is on its way.
        n_clips: Clips in it.
        n_done: Clips that have an answer or a problem.
        n_failed: Those of them with a problem.
        version: Grows with each change.
        created: When it was made.
        started: When its first clip was begun; None: not yet.
        ended: When it was done, failed or cancelled; None: not yet.
        expires: When its results go, or, once they are gone, its record; None while it has not ended.
        webhook: What has become of its webhook; None: it has none.
    """

    id: str
    owner: str
    state: JobState
    n_clips: int
    n_done: int
    n_failed: int
    version: int
    created: datetime
    started: datetime | None
    ended: datetime | None
    expires: datetime | None
    webhook: WebhookState | None

    @property
    def is_unfinished(self) -> bool:
        """Whether there may be work left."""
        return self.state in UNFINISHED


@dataclass(frozen=True)
class JobClip:
    """One clip of a job.

    Attributes:
        index: Its place in the job, from 0.
        name: The file name that the client gave it; only shown, never opened.
        state: Where it is on its way.
        version: Of the job, when this clip was finished; 0: not yet.
        n_bytes: Bytes of its outcome; of the clip itself while there is none.
    """

    index: int
    name: str
    state: ClipState
    version: int
    n_bytes: int

    @property
    def has_outcome(self) -> bool:
        """Whether something has become of it."""
        return self.state in {"done", "failed"}


@dataclass(frozen=True)
class Webhook:
    """Where the end of a job is reported.

    Attributes:
        url: Where to.
        secret: Signs the report; forgotten when it has arrived or was given up.
    """

    url: str
    secret: str


@dataclass(frozen=True)
class NewJob:
    """What makes a job.

    Attributes:
        owner: Id of the API key; empty: none was needed.
        fields: Names and values of the form in the order sent, without the clips.
        names: File names of the clips in their order.
        idempotency_key: The client's own name for the request; None: it gave none.
        webhook: Where to report its end; None: nowhere.
        max_owned: Maximum number of jobs that the owner may have; None: any.
    """

    owner: str
    fields: tuple[tuple[str, str], ...]
    names: tuple[str, ...]
    idempotency_key: str | None = None
    webhook: Webhook | None = None
    max_owned: int | None = None


@dataclass(frozen=True)
class JobLimits:
    """What all jobs together may take.

    Attributes:
        max_jobs: Maximum number of jobs, whose results have not expired.
        max_bytes: Maximum bytes of their clips, fields and results.
        kept_for: How long results are kept after the end, and then the record of an expired job.
    """

    max_jobs: int
    max_bytes: int
    kept_for: timedelta


@dataclass(frozen=True)
class Usage:
    """What all jobs take now.

    Attributes:
        n_unfinished: Jobs that have not ended.
        n_bytes: Bytes of clips, fields and results.
    """

    n_unfinished: int
    n_bytes: int


@dataclass(frozen=True)
class Claim:
    """A clip that one worker works on now.

    Attributes:
        job_id: Whose it is.
        index: Its place in the job.
        path: The file.
        fields: The form of the job.
        attempt: How often it was begun, this time included.
    """

    job_id: str
    index: int
    path: Path
    fields: tuple[tuple[str, str], ...]
    attempt: int


@dataclass(frozen=True)
class Delivery:
    """A report of a job's end that one worker sends now.

    Attributes:
        job: The job.
        webhook: Where to, and with which secret.
        attempt: How often it was sent, this time included.
    """

    job: Job
    webhook: Webhook
    attempt: int

    @property
    def is_last(self) -> bool:
        """Whether it is given up if it does not arrive this time."""
        return self.attempt > len(_PAUSES)

    @property
    def pause(self) -> timedelta:
        """After which it is due again, unless its end is known by then."""
        return _PAUSES[min(self.attempt, len(_PAUSES)) - 1]


@dataclass(frozen=True)
class Outcome:
    """What has become of a clip.

    Attributes:
        member: `answer` or `problem`.
        content: JSON of it.
    """

    member: Literal["answer", "problem"]
    content: str


def new_job_id(now: datetime) -> str:
    """An id that sorts by time, with 64 random bits; the time is in milliseconds since 1970."""
    return f"job_{round(now.timestamp() * 1000):012x}{secrets.token_hex(8)}"


JOB_ID = "^job_[0-9a-f]{28}$"
"""What ids look like."""
