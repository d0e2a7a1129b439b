"""The store of jobs in a SQLite file: one transaction a call, and the files of a job with it."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from service.database import Database, make_private
from service.errors import StoreUnavailableError
from service.jobs.changes import check_answer_fits, check_room, end_of, first_of_owners, job_of
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
    Webhook,
    WebhookEnd,
    new_job_id,
)
from service.jobs.sqlite import rows
from service.jobs.turns import Turns


class SqliteJobStore:
    """A JobStore in a file `jobs.sqlite3` and a folder `jobs`; see the interface for its methods.

    Both can be read by their owner only: they hold clips, and secrets of webhooks that are not sent yet.

    Args:
        directory: Where they are.
        limits: What all jobs may take.
    """

    def __init__(self, directory: Path, limits: JobLimits) -> None:
        self._limits = limits
        self.folder = JobFolder(directory / "jobs")
        self._turns = Turns()
        path = directory / "jobs.sqlite3"
        make_private(path, "job")
        self._database = Database(path, rows.SCHEMA, "FULL", "job")

    def create(self, new: NewJob, clips: Path, now: datetime) -> tuple[Job, bool]:
        """Keep a new job."""
        job_id = new_job_id(now)
        fields = json.dumps(new.fields)
        try:
            sizes = [n_bytes_of(clips / str(index)) for index in range(len(new.names))]
            with self._database.writing() as connection:
                if new.idempotency_key and (
                    known := rows.find_by_key(connection, new.owner, new.idempotency_key)
                ):
                    return known, False
                self._check_room(connection, new.owner, new.max_owned, len(fields) + sum(sizes))
                rows.insert_job(connection, job_id, new, fields, sizes, now)
                # Inside the transaction: a job is never without its clips, and `lead` sees both or neither.
                self.folder.take(clips, job_id)
                return rows.read_job(connection, job_id), True
        except OSError as error:
            raise StoreUnavailableError("the clips of the job can't be kept; try again later") from error
        except BaseException:
            self.folder.remove(job_id)
            raise

    def find(self, owner: str, idempotency_key: str) -> Job | None:
        """The job of an idempotency key."""
        with self._database.reading() as connection:
            return rows.find_by_key(connection, owner, idempotency_key)

    def check_room(self, owner: str, max_owned: int | None) -> None:
        """Check that a job could be kept now."""
        with self._database.reading() as connection:
            self._check_room(connection, owner, max_owned)

    def _check_room(
        self, connection: sqlite3.Connection, owner: str, max_owned: int | None, n_more: int = 0
    ) -> None:
        (n_owned,) = connection.execute(
            "SELECT count(*) FROM jobs WHERE owner = ? AND state <> 'expired'", (owner,)
        ).fetchone()
        (n_jobs,) = connection.execute("SELECT count(*) FROM jobs WHERE state <> 'expired'").fetchone()
        n_bytes = rows.n_bytes(connection) + n_more
        check_room(self._limits, max_owned, n_owned=n_owned, n_jobs=n_jobs, n_bytes=n_bytes)

    def get(self, job_id: str) -> Job:
        """One job."""
        with self._database.reading() as connection:
            return rows.read_job(connection, job_id)

    def page(self, owner: str | None, before: str, limit: int) -> list[Job]:
        """Jobs, the latest first."""
        with self._database.reading() as connection:
            found = connection.execute(
                "SELECT * FROM job_facts WHERE (?1 IS NULL OR owner = ?1) AND (?2 = '' OR id < ?2) "
                "ORDER BY id DESC LIMIT ?3",
                (owner, before, limit),
            ).fetchall()
        return [job_of(row) for row in found]

    def clips(self, job_id: str, since: int = -1) -> list[JobClip]:
        """Clips of a job."""
        with self._database.reading() as connection:
            rows.read_job(connection, job_id)
            found = connection.execute(
                "SELECT position, name, state, version, n_bytes FROM clips WHERE job = ?1 AND version > ?2 "
                "ORDER BY CASE WHEN ?2 < 0 THEN position ELSE version END",
                (job_id, since),
            ).fetchall()
        return [JobClip(*row) for row in found]

    def outcome(self, job_id: str, index: int) -> Outcome | None:
        """What has become of a clip."""
        with self._database.reading() as connection:
            row = connection.execute(
                "SELECT state, outcome FROM clips WHERE job = ? AND position = ? AND outcome IS NOT NULL",
                (job_id, index),
            ).fetchone()
        return None if row is None else Outcome("answer" if row[0] == "done" else "problem", row[1])

    def lead(self) -> bool:
        """Try to become the process that works on the jobs."""
        return self.folder.lead(self._take_up)

    def _take_up(self) -> None:
        """Queue again what a process before has left behind."""
        with self._database.writing() as connection:
            connection.execute("UPDATE clips SET state = 'queued' WHERE state = 'running'")
            connection.execute(
                "UPDATE jobs SET state = 'queued', version = version + 1 WHERE state = 'running'"
            )
            wanted = connection.execute("SELECT job, position FROM clips WHERE state = 'queued'").fetchall()
            self.folder.sweep(set(wanted))

    def claim(self, now: datetime) -> Claim | None:
        """Begin the next clip."""
        with self._database.writing() as connection:
            oldest: dict[str, str] = dict(
                connection.execute(
                    "SELECT owner, min(id) FROM jobs WHERE ended IS NULL "
                    "AND EXISTS (SELECT 1 FROM clips WHERE job = id AND state = 'queued') "
                    "GROUP BY owner ORDER BY min(id)"
                ).fetchall()
            )
            if not oldest:
                return None
            owner = self._turns.line(oldest)[0]
            job_id = oldest[owner]
            state, fields = connection.execute(
                "SELECT state, fields FROM jobs WHERE id = ?", (job_id,)
            ).fetchone()
            if state == "queued":
                connection.execute(
                    "UPDATE jobs SET state = 'running', version = version + 1, "
                    "started = coalesce(started, ?) WHERE id = ?",
                    (now.timestamp(), job_id),
                )
            index, attempt = connection.execute(
                "UPDATE clips SET state = 'running', attempts = attempts + 1 WHERE job = ?1 AND position = "
                "(SELECT min(position) FROM clips WHERE job = ?1 AND state = 'queued') "
                "RETURNING position, attempts",
                (job_id,),
            ).fetchone()
        self._turns.took(owner)
        form = tuple((name, value) for name, value in json.loads(fields))
        return Claim(job_id, index, self.folder.clip(job_id, index), form, attempt)

    def finish(self, claim: Claim, outcome: Outcome, now: datetime) -> Job | None:
        """Keep the outcome of a clip."""
        with self._database.writing() as connection:
            row = connection.execute(
                "SELECT n_bytes FROM clips WHERE job = ? AND position = ? AND state = 'running'",
                (claim.job_id, claim.index),
            ).fetchone()
            if row is None:
                return None
            n_more = len(outcome.content.encode()) - row[0]
            check_answer_fits(outcome, self._limits, rows.n_bytes(connection) + n_more)
            job = self._keep(connection, claim, outcome, n_more, now)
        self.folder.remove_clip(claim.job_id, claim.index)
        if not job.is_unfinished:
            self.folder.remove(job.id)
        return job

    def _keep(
        self, connection: sqlite3.Connection, claim: Claim, outcome: Outcome, n_more: int, now: datetime
    ) -> Job:
        is_failed = outcome.member == "problem"
        (version,) = connection.execute(
            "UPDATE jobs SET n_done = n_done + 1, n_failed = n_failed + ?, version = version + 1, "
            "n_bytes = n_bytes + ? WHERE id = ? RETURNING version",
            (is_failed, n_more, claim.job_id),
        ).fetchone()
        connection.execute(
            "UPDATE clips SET state = ?, version = ?, outcome = ?, n_bytes = n_bytes + ? "
            "WHERE job = ? AND position = ?",
            ("failed" if is_failed else "done", version, outcome.content, n_more, claim.job_id, claim.index),
        )
        job = rows.read_job(connection, claim.job_id)
        end = end_of(job)
        return job if end is None else self._end(connection, job.id, end, now)

    def _end(self, connection: sqlite3.Connection, job_id: str, state: str, now: datetime) -> Job:
        """End a job; from now on it needs neither its form nor its clips."""
        connection.execute(
            "UPDATE jobs SET state = ?, version = version + 1, ended = ?, expires = ?, fields = '[]', "
            "n_bytes = (SELECT coalesce(sum(length(CAST(outcome AS BLOB))), 0) FROM clips WHERE job = id) "
            "WHERE id = ?",
            (state, now.timestamp(), (now + self._limits.kept_for).timestamp(), job_id),
        )
        connection.execute(
            "UPDATE webhooks SET state = 'pending', next = ? WHERE job = ?", (now.timestamp(), job_id)
        )
        return rows.read_job(connection, job_id)

    def release(self, claim: Claim, *, is_tried: bool) -> None:
        """Queue a clip again."""
        with self._database.writing() as connection:
            connection.execute(
                "UPDATE clips SET state = 'queued', attempts = attempts - ? "
                "WHERE job = ? AND position = ? AND state = 'running' AND attempts = ?",
                (not is_tried, claim.job_id, claim.index, claim.attempt),
            )

    def cancel(self, job_id: str, now: datetime) -> Job:
        """End a job that has not ended."""
        with self._database.writing() as connection:
            job = rows.read_job(connection, job_id)
            if not job.is_unfinished:
                return job
            connection.execute(
                "UPDATE clips SET state = 'cancelled' WHERE job = ? AND outcome IS NULL", (job_id,)
            )
            job = self._end(connection, job_id, "cancelled", now)
        self.folder.remove(job_id)
        return job

    def delete(self, job_id: str) -> None:
        """Forget a job."""
        with self._database.writing() as connection:
            rows.read_job(connection, job_id)
            connection.execute("DELETE FROM jobs WHERE id = ?", (job_id,))
        self.folder.remove(job_id)

    def unwanted(self, job_ids: Sequence[str]) -> set[str]:
        """Which of these jobs are not worked on any more."""
        with self._database.reading() as connection:
            wanted = connection.execute(
                "SELECT id FROM jobs WHERE ended IS NULL AND id IN (SELECT value FROM json_each(?))",
                (json.dumps(list(job_ids)),),
            ).fetchall()
        return set(job_ids) - {job_id for (job_id,) in wanted}

    def expire(self, now: datetime) -> list[str]:
        """Remove what has expired."""
        until = (now + self._limits.kept_for).timestamp()
        with self._database.writing() as connection:
            gone = connection.execute(
                "DELETE FROM jobs WHERE state = 'expired' AND expires <= ? RETURNING id", (now.timestamp(),)
            ).fetchall()
            expired = connection.execute(
                "UPDATE jobs SET state = 'expired', version = version + 1, expires = ?, n_bytes = 0, "
                "idempotency_key = NULL WHERE expires <= ? RETURNING id",
                (until, now.timestamp()),
            ).fetchall()
            connection.executemany("DELETE FROM clips WHERE job = ?", expired)
            connection.executemany(
                "UPDATE webhooks SET state = 'failed', secret = NULL, next = NULL "
                "WHERE job = ? AND state = 'pending'",
                expired,
            )
        return [job_id for (job_id,) in (*gone, *expired)]

    def claim_webhooks(self, now: datetime, limit: int, sending: Sequence[str]) -> list[Delivery]:
        """Begin to send reports that are due."""
        with self._database.writing() as connection:
            found = connection.execute(
                "SELECT owner, job, url, secret, attempts FROM webhooks JOIN jobs ON id = job "
                "WHERE webhooks.state = 'pending' AND next <= ? ORDER BY attempts, next",
                (now.timestamp(),),
            ).fetchall()
            due = [
                Delivery(rows.read_job(connection, job_id), Webhook(url, secret), attempts + 1)
                for _, job_id, url, secret, attempts in first_of_owners(found, limit, sending)
            ]
            connection.executemany(
                "UPDATE webhooks SET attempts = ?, next = ? WHERE job = ?",
                [(one.attempt, (now + one.pause).timestamp(), one.job.id) for one in due],
            )
        return due

    def finish_webhook(self, job_id: str, end: WebhookEnd) -> None:
        """Keep how the sending of a report has ended."""
        with self._database.writing() as connection:
            connection.execute(
                "UPDATE webhooks SET state = ?, next = NULL, secret = NULL "
                "WHERE job = ? AND state = 'pending'",
                (end, job_id),
            )
            connection.execute("UPDATE jobs SET version = version + 1 WHERE id = ?", (job_id,))

    def usage(self) -> Usage:
        """What all jobs take now."""
        with self._database.reading() as connection:
            (n,) = connection.execute("SELECT count(*) FROM jobs WHERE ended IS NULL").fetchone()
            return Usage(n, rows.n_bytes(connection))

    def check(self) -> None:
        """Raise StoreUnavailableError when the store can't answer now."""
        self._database.check()

    def close(self) -> None:
        """Close the file, and let another process work on the jobs."""
        self._database.close()
        self.folder.close()
