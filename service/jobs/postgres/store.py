"""The store of jobs in PostgreSQL: one transaction a call, and the files of this replica after it."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import structlog
from sqlalchemy import Connection

from service.errors import StoreUnavailableError
from service.jobs.changes import found_job, job_of
from service.jobs.folder import JobFolder, n_bytes_of
from service.jobs.job import (
    Claim,
    Delivery,
    Job,
    JobClip,
    JobLimits,
    NewJob,
    Outcome,
    Usage,
    WebhookEnd,
    new_job_id,
)
from service.jobs.postgres.claims import Claims
from service.jobs.postgres.lifecycle import (
    cancel_job,
    check_new_job,
    claim_webhooks,
    create_job,
    expire_jobs,
    finish_webhook,
)
from service.jobs.postgres.replica import Replica
from service.jobs.postgres.rows import FACTS, find_by_key, n_bytes, read_job, run
from service.postgres.database import PostgresDatabase

_log = structlog.get_logger(__name__)


class PostgresJobStore:
    """A JobStore in a database, which it does not close, and a folder `jobs`; see the interface.

    Every replica sees, cancels and deletes all jobs. Only the one that took a job has its clips: it alone
    works on them and reports the end, and it removes the clips of jobs that others have ended; once it is
    gone for good another one does. The limits hold for the jobs of each replica, whose disk they fill.

    Args:
        database: Where the tables are.
        directory: Data directory of this replica, by which it is recognised after a restart.
        limits: What the jobs of this replica may take.
    """

    def __init__(self, database: PostgresDatabase, directory: Path, limits: JobLimits) -> None:
        self._database = database
        self.folder = JobFolder(directory / "jobs")
        self._replica = Replica(self.folder.identity(), self.folder, limits)
        self._claims = Claims(self._replica)

    def create(self, new: NewJob, clips: Path, now: datetime) -> tuple[Job, bool]:
        """Keep a new job."""
        job_id = new_job_id(now)
        try:
            sizes = [n_bytes_of(clips / str(index)) for index in range(len(new.names))]
            return self._database.write(
                lambda connection: create_job(connection, self._replica, job_id, new, clips, sizes, now)
            )
        except OSError as error:
            raise StoreUnavailableError("the clips of the job can't be kept; try again later") from error
        except StoreUnavailableError:
            raise  # perhaps the job is kept; if not, its clips are swept away
        except BaseException:
            self.folder.remove(job_id)
            raise

    def find(self, owner: str, idempotency_key: str) -> Job | None:
        """The job of an idempotency key."""
        return self._database.read(lambda connection: find_by_key(connection, owner, idempotency_key))

    def check_room(self, owner: str, max_owned: int | None) -> None:
        """Check that a job could be kept now."""
        self._database.read(lambda connection: check_new_job(connection, self._replica, owner, max_owned))

    def get(self, job_id: str) -> Job:
        """One job."""
        return self._database.read(lambda connection: read_job(connection, job_id))

    def page(self, owner: str | None, before: str, limit: int) -> list[Job]:
        """Jobs, the latest first."""
        query = (
            f"{FACTS} WHERE (CAST(:owner AS text) IS NULL OR owner = :owner) "
            "AND (:before = '' OR id < :before) ORDER BY id DESC LIMIT :limit"
        )
        return self._database.read(
            lambda connection: [
                job_of(row) for row in run(connection, query, owner=owner, before=before, limit=limit)
            ]
        )

    def clips(self, job_id: str, since: int = -1) -> list[JobClip]:
        """Clips of a job."""

        def work(connection: Connection) -> list[JobClip]:
            read_job(connection, job_id)
            found = run(
                connection,
                "SELECT position, name, state, version, n_bytes FROM job_clips "
                "WHERE job = :job AND version > :since "
                "ORDER BY CASE WHEN :since < 0 THEN position ELSE version END",
                job=job_id,
                since=since,
            )
            return [JobClip(index, json.loads(name), *rest) for index, name, *rest in found]

        return self._database.read(work)

    def outcome(self, job_id: str, index: int) -> Outcome | None:
        """What has become of a clip."""
        query = (
            "SELECT state, outcome FROM job_clips "
            "WHERE job = :job AND position = :position AND outcome IS NOT NULL"
        )
        row = self._database.read(
            lambda connection: run(connection, query, job=job_id, position=index).first(), is_long=True
        )
        return None if row is None else Outcome("answer" if row[0] == "done" else "problem", row[1])

    def lead(self) -> bool:
        """Try to become the process that works on the jobs of this replica."""
        return self.folder.lead(lambda: self._database.write(self._replica.take_up))

    def claim(self, now: datetime) -> Claim | None:
        """Begin the next clip whose file is here."""
        claim = self._database.write(lambda connection: self._claims.begin(connection, now))
        if claim is not None:
            self._claims.hold(claim)
        return claim

    def finish(self, claim: Claim, outcome: Outcome, now: datetime) -> Job | None:
        """Keep the outcome of a clip."""
        job = self._database.write(lambda connection: self._claims.finish(connection, claim, outcome, now))
        self._claims.let_go(claim)
        self.folder.remove_clip(claim.job_id, claim.index)
        if job is not None and not job.is_unfinished:
            self.folder.remove(job.id)
        return job

    def release(self, claim: Claim, *, is_tried: bool) -> None:
        """Queue a clip again."""
        self._database.write(lambda connection: self._claims.release(connection, claim, is_tried=is_tried))
        self._claims.let_go(claim)

    def cancel(self, job_id: str, now: datetime) -> Job:
        """End a job that has not ended."""
        kept_for = self._replica.limits.kept_for
        job = self._database.write(lambda connection: cancel_job(connection, job_id, now, kept_for))
        self.folder.remove(job_id)
        return job

    def delete(self, job_id: str) -> None:
        """Forget a job; one that is gone when this is tried again was deleted."""
        n_tries = 0

        def work(connection: Connection) -> None:
            nonlocal n_tries
            n_tries += 1
            if not run(connection, "DELETE FROM jobs WHERE id = :id", id=job_id).rowcount and n_tries == 1:
                found_job(None)

        self._database.write(work)
        self.folder.remove(job_id)

    def unwanted(self, job_ids: Sequence[str]) -> set[str]:
        """Which of these jobs are not worked on any more."""
        wanted = self._database.read(
            lambda connection: run(
                connection,
                "SELECT id FROM jobs WHERE ended IS NULL AND replica = :replica "
                "AND id = ANY(CAST(:ids AS text[]))",
                replica=self._replica.id,
                ids=list(job_ids),
            ).all()
        )
        return set(job_ids) - {job_id for (job_id,) in wanted}

    def expire(self, now: datetime) -> list[str]:
        """Remove what has expired, of any replica; take over the jobs of replicas that are gone."""

        def work(connection: Connection) -> tuple[list[str], list[str]]:
            expired = expire_jobs(connection, self._replica, now)
            self._replica.beat(connection)
            return expired, self._replica.take_over(connection)

        expired, taken = self._database.write(work)
        if taken:
            _log.warning("jobs_taken_over", n_jobs=len(taken))
        return expired

    def claim_webhooks(self, now: datetime, limit: int, sending: Sequence[str]) -> list[Delivery]:
        """Begin to send reports that are due here; after a lost answer they wait for their pause."""
        return self._database.write(
            lambda connection: claim_webhooks(connection, self._replica, now, limit, sending)
        )

    def finish_webhook(self, job_id: str, end: WebhookEnd) -> None:
        """Keep how the sending of a report has ended."""
        self._database.write(lambda connection: finish_webhook(connection, job_id, end))

    def usage(self) -> Usage:
        """What the jobs of this replica take now."""

        def work(connection: Connection) -> Usage:
            query = "SELECT count(*) FROM jobs WHERE replica = :replica AND ended IS NULL"
            n = run(connection, query, replica=self._replica.id).scalar_one()
            return Usage(n, n_bytes(connection, self._replica.id))

        return self._database.read(work)

    def check(self) -> None:
        """Try the database, and never raise: see PostgresLabelStore.check."""
        with contextlib.suppress(StoreUnavailableError):
            self._database.ask("SELECT 1")

    def close(self) -> None:
        """Let another process work on the jobs of this replica; who opened the database closes it."""
        self.folder.close()
