"""What every store of jobs does alike: room and quotas of changes, how jobs end, and rows as jobs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import fields
from datetime import UTC, datetime
from typing import Any, Literal, TypeVar

from service.errors import OverloadedError, QuotaExceededError, UnknownJobError
from service.jobs.job import Job, JobLimits, Outcome

Found = TypeVar("Found", Job, Outcome)
Row = TypeVar("Row", bound=Sequence[Any])


def check_room(limits: JobLimits, max_owned: int | None, *, n_owned: int, n_jobs: int, n_bytes: int) -> None:
    """Check that a job may be kept beside those that there are and that have not expired.

    Args:
        limits: What all jobs may take.
        max_owned: Maximum number of jobs that its owner may have; None: any.
        n_owned: Number of jobs that its owner has.
        n_jobs: Number of all jobs.
        n_bytes: Bytes of all jobs, and of this one as far as it is known.

    Raises:
        QuotaExceededError: The owner has as many as it may have.
        OverloadedError: There are as many jobs, or as many bytes of them, as there may be.
    """
    if max_owned is not None and n_owned >= max_owned:
        raise QuotaExceededError(
            f"this key may have {max_owned} jobs, and has {n_owned}; delete one, or wait until one expires"
        )
    if n_jobs >= limits.max_jobs or n_bytes > limits.max_bytes:
        raise OverloadedError(
            "The service keeps as many jobs as it can; delete jobs that have ended, or try again later."
        )


def check_answer_fits(outcome: Outcome, limits: JobLimits, n_bytes: int) -> None:
    """Check that an outcome may be kept; a problem always is.

    Args:
        outcome: What has become of a clip.
        limits: What all jobs may take.
        n_bytes: Bytes of all jobs, the outcome included.

    Raises:
        OverloadedError: It is an answer, and more than all jobs may take.
    """
    if outcome.member == "answer" and n_bytes > limits.max_bytes:
        raise OverloadedError(
            "The answer has no room beside those of other jobs; delete jobs that have ended."
        )


def first_of_owners(due: Sequence[Row], limit: int, sending: Sequence[str]) -> list[Row]:
    """Which reports are sent first, in their order but for owners; see `JobStore.claim_webhooks`.

    Args:
        due: Rows, in the first column of which is an owner.
        limit: Maximum number of them.
        sending: Owners of reports that are under way.
    """
    left, n_sending = list(due), Counter(sending)
    chosen = list[Row]()
    while left and len(chosen) < limit:
        row = min(left, key=lambda one: n_sending[one[0]])
        left.remove(row)
        n_sending[row[0]] += 1
        chosen.append(row)
    return chosen


def end_of(job: Job) -> Literal["done", "failed"] | None:
    """How a job ends whose clip was finished; None: others are left."""
    if job.n_done < job.n_clips:
        return None
    return "failed" if job.n_failed == job.n_clips else "done"


def found_job(job: Found | None) -> Found:
    """A job, or an outcome of one, that must be there.

    Raises:
        UnknownJobError: It is not.
    """
    if job is None:
        raise UnknownJobError("There is no such job; it may have been deleted, or have expired long ago.")
    return job


def job_of(row: Sequence[Any]) -> Job:
    """A row of a store: the fields of a job in their order, and a last column to search by.

    Times are seconds since 1970.
    """
    facts: dict[str, Any] = dict(zip((one.name for one in fields(Job)), row[:-1], strict=True))
    for name in ("created", "started", "ended", "expires"):
        facts[name] = None if facts[name] is None else datetime.fromtimestamp(facts[name], UTC)
    return Job(**facts)
