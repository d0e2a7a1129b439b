"""Jobs in PostgreSQL, seen by all replicas; the clips of each in a folder of the replica that took it."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, CursorResult, text

from service.errors import OverloadedError, QuotaExceededError, StoreUnavailableError
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
    new_job_id,
)
from service.jobs.rows import found_job, job_of
from service.postgres.database import PostgresDatabase

# The fields of a job in their order, and a last column, as `job_of` reads them.
_FACTS = """
    SELECT id, owner, state, n_clips, n_done, n_failed, version, created, started, ended, expires,
        (SELECT state FROM job_webhooks WHERE job = id) AS webhook, idempotency_key
    FROM jobs
"""


class PostgresJobStore:
    """A JobStore in a database, which it does not close, and a folder `jobs`; see the interface.

    Every replica sees, cancels and deletes all jobs. Only the one that took a job has its clips: it alone
    works on them and reports the end, and it removes the clips of jobs that others have ended. The limits
    hold for the jobs of each replica, whose disk they fill.

    Args:
        database: Where the tables are.
        directory: Data directory of this replica, by which it is recognised after a restart.
        limits: What the jobs of this replica may take.
    """

    def __init__(self, database: PostgresDatabase, directory: Path, limits: JobLimits) -> None:
        self._database = database
        self._limits = limits
        self.folder = JobFolder(directory / "jobs")
        self._replica = self.folder.identity()
        # Clips that are worked on here. One that runs but for these was claimed without an answer.
        self._held: set[tuple[str, int]] = set()

    def create(self, new: NewJob, clips: Path, now: datetime) -> tuple[Job, bool]:
        """Keep a new job."""
        job_id, fields = new_job_id(now), json.dumps(new.fields)

        def work(connection: Connection) -> tuple[Job, bool]:
            # The owner's number of jobs, this replica's, and the folder change only with these locks.
            _lock(connection, f"jobs of owner {new.owner}", f"jobs on {self._replica}")
            if made := _find(connection, "id = :id", id=job_id):
                return made, True  # the answer to COMMIT was lost
            if new.idempotency_key and (known := _find_by_key(connection, new.owner, new.idempotency_key)):
                return known, False
            self._check_room(connection, new, len(fields) + sum(sizes))
            self._insert(connection, job_id, new, fields, sizes, now)
            # Inside the transaction: a job is never without its clips, and `_sweep` sees both or neither.
            if clips.exists():
                self.folder.take(clips, job_id)
            return _read(connection, job_id), True

        try:
            sizes = [n_bytes_of(clips / str(index)) for index in range(len(new.names))]
            return self._database.write(work)
        except OSError as error:
            raise StoreUnavailableError("the clips of the job can't be kept; try again later") from error
        except StoreUnavailableError:
            raise  # perhaps the job is kept; if not, its clips are swept away
        except BaseException:
            self.folder.remove(job_id)
            raise

    def _check_room(self, connection: Connection, new: NewJob, n_bytes: int) -> None:
        n_owned = _run(
            connection,
            "SELECT count(*) FROM jobs WHERE owner = :owner AND state <> 'expired'",
            owner=new.owner,
        ).scalar_one()
        if new.max_owned is not None and n_owned >= new.max_owned:
            raise QuotaExceededError(
                f"this key may have {new.max_owned} jobs, and has {n_owned}; delete one, or wait until "
                "one expires"
            )
        n_jobs = _run(
            connection,
            "SELECT count(*) FROM jobs WHERE replica = :replica AND state <> 'expired'",
            replica=self._replica,
        ).scalar_one()
        if n_jobs >= self._limits.max_jobs or self._n_bytes(connection) + n_bytes > self._limits.max_bytes:
            raise OverloadedError(
                "The service keeps as many jobs as it can; delete jobs that have ended, or try again later."
            )

    def _n_bytes(self, connection: Connection) -> int:
        query = "SELECT coalesce(sum(n_bytes), 0) FROM jobs WHERE replica = :replica"
        return int(_run(connection, query, replica=self._replica).scalar_one())

    def _insert(
        self, connection: Connection, job_id: str, new: NewJob, form: str, sizes: list[int], now: datetime
    ) -> None:
        _run(
            connection,
            "INSERT INTO jobs (id, replica, owner, state, n_clips, n_done, n_failed, version, created, turn, "
            "n_bytes, idempotency_key, fields) VALUES (:id, :replica, :owner, 'queued', :n_clips, 0, 0, 1, "
            ":created, 0, :n_bytes, :key, :fields)",
            id=job_id,
            replica=self._replica,
            owner=new.owner,
            n_clips=len(sizes),
            created=now.timestamp(),
            n_bytes=len(form) + sum(sizes),
            key=new.idempotency_key,
            fields=form,
        )
        for index, (name, size) in enumerate(zip(new.names, sizes, strict=True)):
            _run(
                connection,
                "INSERT INTO job_clips (job, position, name, state, version, attempts, n_bytes) "
                "VALUES (:job, :position, :name, 'queued', 0, 0, :size)",
                job=job_id,
                position=index,
                name=json.dumps(name),
                size=size,
            )
        if new.webhook is not None:
            _run(
                connection,
                "INSERT INTO job_webhooks (job, state, attempts, url, secret) "
                "VALUES (:job, 'waiting', 0, :url, :secret)",
                job=job_id,
                url=new.webhook.url,
                secret=new.webhook.secret,
            )

    def find(self, owner: str, idempotency_key: str) -> Job | None:
        """The job of an idempotency key."""
        return self._database.read(lambda connection: _find_by_key(connection, owner, idempotency_key))

    def get(self, job_id: str) -> Job:
        """One job."""
        return self._database.read(lambda connection: _read(connection, job_id))

    def page(self, owner: str | None, before: str, limit: int) -> list[Job]:
        """Jobs, the latest first."""
        query = (
            f"{_FACTS} WHERE (CAST(:owner AS text) IS NULL OR owner = :owner) "
            "AND (:before = '' OR id < :before) ORDER BY id DESC LIMIT :limit"
        )
        return self._database.read(
            lambda connection: [
                job_of(tuple(row)) for row in _run(connection, query, owner=owner, before=before, limit=limit)
            ]
        )

    def clips(self, job_id: str, since: int = -1) -> list[JobClip]:
        """Clips of a job."""

        def work(connection: Connection) -> list[JobClip]:
            _read(connection, job_id)
            found = _run(
                connection,
                "SELECT position, name, state, version FROM job_clips WHERE job = :job AND version > :since "
                "ORDER BY CASE WHEN :since < 0 THEN position ELSE version END",
                job=job_id,
                since=since,
            )
            return [JobClip(index, json.loads(name), state, version) for index, name, state, version in found]

        return self._database.read(work)

    def outcome(self, job_id: str, index: int) -> Outcome | None:
        """What has become of a clip."""
        row = self._database.ask(
            "SELECT state, outcome FROM job_clips WHERE job = %s AND position = %s AND outcome IS NOT NULL",
            (job_id, index),
        )
        return None if row is None else Outcome("answer" if row[0] == "done" else "problem", row[1])

    def lead(self) -> bool:
        """Try to become the process that works on the jobs of this replica."""
        if self.folder.is_locked:
            return True
        if not self.folder.lock():
            return False

        def work(connection: Connection) -> None:
            _lock(connection, f"jobs on {self._replica}")
            _run(
                connection,
                "UPDATE job_clips SET state = 'queued' FROM jobs "
                "WHERE jobs.id = job AND replica = :replica AND job_clips.state = 'running'",
                replica=self._replica,
            )
            _run(
                connection,
                "UPDATE jobs SET state = 'queued', version = version + 1 "
                "WHERE replica = :replica AND state = 'running'",
                replica=self._replica,
            )
            self._sweep(connection)

        try:
            self._database.write(work)
        except BaseException:
            self.folder.close()  # the next try begins anew
            raise
        return True

    def _sweep(self, connection: Connection) -> None:
        """Delete the clips of jobs that other replicas have ended, or that were never kept."""
        wanted = _run(
            connection,
            "SELECT job, position FROM job_clips JOIN jobs ON jobs.id = job "
            "WHERE replica = :replica AND job_clips.state IN ('queued', 'running')",
            replica=self._replica,
        )
        self.folder.sweep({(job, position) for job, position in wanted})

    def claim(self, now: datetime) -> Claim | None:
        """Begin the next clip whose file is here."""

        def work(connection: Connection) -> Claim | None:
            self._queue_lost_claims(connection)
            found = _run(
                connection,
                """
                SELECT id, state, fields FROM jobs WHERE replica = :replica AND ended IS NULL
                    AND EXISTS (SELECT 1 FROM job_clips WHERE job = id AND job_clips.state = 'queued')
                ORDER BY (SELECT max(turn) FROM jobs AS own WHERE own.owner = jobs.owner), id
                LIMIT 1 FOR UPDATE SKIP LOCKED
                """,
                replica=self._replica,
            ).first()
            if found is None:
                return None
            job_id, state, fields = found
            if state == "queued":
                _run(
                    connection,
                    "UPDATE jobs SET state = 'running', version = version + 1, "
                    "started = coalesce(started, :now) WHERE id = :id",
                    now=now.timestamp(),
                    id=job_id,
                )
            _run(
                connection,
                "UPDATE jobs SET turn = (SELECT max(turn) + 1 FROM jobs) WHERE id = :id",
                id=job_id,
            )
            index, attempt = _run(
                connection,
                "UPDATE job_clips SET state = 'running', attempts = attempts + 1 WHERE job = :id "
                "AND position = (SELECT min(position) FROM job_clips WHERE job = :id AND state = 'queued') "
                "RETURNING position, attempts",
                id=job_id,
            ).one()
            form = tuple((name, value) for name, value in json.loads(fields))
            return Claim(job_id, index, self.folder.clip(job_id, index), form, attempt)

        claim = self._database.write(work)
        if claim is not None:
            self._held.add((claim.job_id, claim.index))
        return claim

    def _queue_lost_claims(self, connection: Connection) -> None:
        """Queue clips again that nobody works on, since the answer to their claim or release was lost."""
        running = _run(
            connection,
            "SELECT job, position FROM job_clips JOIN jobs ON jobs.id = job "
            "WHERE replica = :replica AND ended IS NULL AND job_clips.state = 'running'",
            replica=self._replica,
        ).all()
        for job_id, index in running:
            if (job_id, index) not in self._held:
                _queue(connection, job_id, index, n_back=0)

    def finish(self, claim: Claim, outcome: Outcome, now: datetime) -> Job | None:
        """Keep the outcome of a clip."""

        def work(connection: Connection) -> Job | None:
            job = _find(connection, "id = :id", id=claim.job_id, then="FOR UPDATE")
            row = _run(
                connection,
                "SELECT n_bytes, state, outcome FROM job_clips WHERE job = :job AND position = :position",
                job=claim.job_id,
                position=claim.index,
            ).first()
            if job is None or row is None:
                return None
            if row.outcome == outcome.content:
                return job  # the answer to COMMIT was lost
            if row.state != "running":
                return None
            n_more = len(outcome.content.encode()) - row.n_bytes
            if outcome.member == "answer" and self._n_bytes(connection) + n_more > self._limits.max_bytes:
                raise OverloadedError(
                    "The answer has no room beside those of other jobs; delete jobs that have ended."
                )
            return self._keep(connection, claim, outcome, n_more, now)

        job = self._database.write(work)
        self._held.discard((claim.job_id, claim.index))
        self.folder.remove_clip(claim.job_id, claim.index)
        if job is not None and not job.is_unfinished:
            self.folder.remove(job.id)
        return job

    def _keep(
        self, connection: Connection, claim: Claim, outcome: Outcome, n_more: int, now: datetime
    ) -> Job:
        is_failed = outcome.member == "problem"
        version = _run(
            connection,
            "UPDATE jobs SET n_done = n_done + 1, n_failed = n_failed + :failed, version = version + 1, "
            "n_bytes = n_bytes + :more WHERE id = :id RETURNING version",
            failed=int(is_failed),
            more=n_more,
            id=claim.job_id,
        ).scalar_one()
        _run(
            connection,
            "UPDATE job_clips SET state = :state, version = :version, outcome = :outcome "
            "WHERE job = :job AND position = :position",
            state="failed" if is_failed else "done",
            version=version,
            outcome=outcome.content,
            job=claim.job_id,
            position=claim.index,
        )
        job = _read(connection, claim.job_id)
        if job.n_done < job.n_clips:
            return job
        return self._end(connection, job.id, "failed" if job.n_failed == job.n_clips else "done", now)

    def _end(self, connection: Connection, job_id: str, state: str, now: datetime) -> Job:
        """End a job; from now on it needs neither its form nor its clips."""
        _run(
            connection,
            "UPDATE jobs SET state = :state, version = version + 1, ended = :now, expires = :expires, "
            "fields = '[]', n_bytes = (SELECT coalesce(sum(octet_length(outcome)), 0) FROM job_clips "
            "WHERE job = id) WHERE id = :id",
            state=state,
            now=now.timestamp(),
            expires=(now + self._limits.kept_for).timestamp(),
            id=job_id,
        )
        _run(
            connection,
            "UPDATE job_webhooks SET state = 'pending', next = :now WHERE job = :id",
            now=now.timestamp(),
            id=job_id,
        )
        return _read(connection, job_id)

    def release(self, claim: Claim, *, is_tried: bool) -> None:
        """Queue a clip again."""
        self._held.discard((claim.job_id, claim.index))
        self._database.write(
            lambda connection: _queue(connection, claim.job_id, claim.index, n_back=int(not is_tried))
        )

    def cancel(self, job_id: str, now: datetime) -> Job:
        """End a job that has not ended."""

        def work(connection: Connection) -> Job:
            job = found_job(_find(connection, "id = :id", id=job_id, then="FOR UPDATE"))
            if not job.is_unfinished:
                return job
            _run(
                connection,
                "UPDATE job_clips SET state = 'cancelled' WHERE job = :id AND outcome IS NULL",
                id=job_id,
            )
            return self._end(connection, job_id, "cancelled", now)

        job = self._database.write(work)
        self.folder.remove(job_id)
        return job

    def delete(self, job_id: str) -> None:
        """Forget a job; one that is gone when this is tried again was deleted."""
        n_tries = 0

        def work(connection: Connection) -> None:
            nonlocal n_tries
            n_tries += 1
            if not _run(connection, "DELETE FROM jobs WHERE id = :id", id=job_id).rowcount and n_tries == 1:
                found_job(None)

        self._database.write(work)
        self.folder.remove(job_id)

    def unwanted(self, job_ids: Sequence[str]) -> set[str]:
        """Which of these jobs are not worked on any more."""
        wanted = self._database.read(
            lambda connection: _run(
                connection,
                "SELECT id FROM jobs WHERE ended IS NULL AND id = ANY(CAST(:ids AS text[]))",
                ids=list(job_ids),
            ).all()
        )
        return set(job_ids) - {job_id for (job_id,) in wanted}

    def expire(self, now: datetime) -> list[str]:
        """Remove what has expired, of any replica, and clips here that are not needed any more."""
        until = (now + self._limits.kept_for).timestamp()

        def work(connection: Connection) -> list[str]:
            # All replicas do this, and would wait for each other's rows in any order.
            _lock(connection, "expiry of jobs", f"jobs on {self._replica}")
            gone = _run(
                connection,
                "DELETE FROM jobs WHERE state = 'expired' AND expires <= :now RETURNING id",
                now=now.timestamp(),
            ).all()
            expired = _run(
                connection,
                "UPDATE jobs SET state = 'expired', version = version + 1, expires = :until, n_bytes = 0, "
                "idempotency_key = NULL WHERE expires <= :now RETURNING id",
                until=until,
                now=now.timestamp(),
            ).all()
            ids = [job_id for (job_id,) in expired]
            _run(connection, "DELETE FROM job_clips WHERE job = ANY(CAST(:ids AS text[]))", ids=ids)
            _run(
                connection,
                "UPDATE job_webhooks SET state = 'failed', secret = NULL, next = NULL "
                "WHERE job = ANY(CAST(:ids AS text[])) AND state = 'pending'",
                ids=ids,
            )
            self._sweep(connection)
            return [*(job_id for (job_id,) in gone), *ids]

        return self._database.write(work)

    def due_webhooks(self, now: datetime, limit: int) -> list[Delivery]:
        """Reports that have to be sent from here."""

        def work(connection: Connection) -> list[Delivery]:
            due = _run(
                connection,
                "SELECT job, url, secret, attempts FROM job_webhooks JOIN jobs ON jobs.id = job "
                "WHERE replica = :replica AND job_webhooks.state = 'pending' AND next <= :now "
                "ORDER BY next LIMIT :limit",
                replica=self._replica,
                now=now.timestamp(),
                limit=limit,
            ).all()
            return [
                Delivery(_read(connection, job_id), Webhook(url, secret), attempts + 1)
                for job_id, url, secret, attempts in due
            ]

        return self._database.read(work)

    def webhook_tried(self, job_id: str, *, delivered: bool, again: datetime | None) -> None:
        """Keep what became of a report."""
        state = "delivered" if delivered else "failed" if again is None else "pending"

        def work(connection: Connection) -> None:
            _run(
                connection,
                "UPDATE job_webhooks SET state = :state, attempts = attempts + 1, next = :next, "
                "secret = CASE WHEN :state = 'pending' THEN secret END WHERE job = :id AND state = 'pending'",
                state=state,
                next=None if again is None else again.timestamp(),
                id=job_id,
            )
            _run(connection, "UPDATE jobs SET version = version + 1 WHERE id = :id", id=job_id)

        self._database.write(work)

    def usage(self) -> Usage:
        """What the jobs of this replica take now."""

        def work(connection: Connection) -> Usage:
            query = "SELECT count(*) FROM jobs WHERE replica = :replica AND ended IS NULL"
            n = _run(connection, query, replica=self._replica).scalar_one()
            return Usage(n, self._n_bytes(connection))

        return self._database.read(work)

    def check(self) -> None:
        """Try the database, and never raise: see PostgresLabelStore.check."""
        with contextlib.suppress(StoreUnavailableError):
            self._database.ask("SELECT 1")

    def close(self) -> None:
        """Let another process work on the jobs of this replica; who opened the database closes it."""
        self.folder.close()


def _run(connection: Connection, statement: str, **values: object) -> CursorResult[*tuple[Any, ...]]:
    return connection.execute(text(statement), values)


def _lock(connection: Connection, *names: str) -> None:
    """Until the end of the transaction; always that of a replica last, so that none wait in a circle."""
    for name in names:
        _run(connection, "SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))", name=name)


def _find(connection: Connection, condition: str, *, then: str = "", **values: object) -> Job | None:
    row = _run(connection, f"{_FACTS} WHERE {condition} {then}", **values).first()
    return None if row is None else job_of(tuple(row))


def _find_by_key(connection: Connection, owner: str, key: str) -> Job | None:
    return _find(connection, "owner = :owner AND idempotency_key = :key", owner=owner, key=key)


def _read(connection: Connection, job_id: str) -> Job:
    return found_job(_find(connection, "id = :id", id=job_id))


def _queue(connection: Connection, job_id: str, index: int, n_back: int) -> None:
    _run(
        connection,
        "UPDATE job_clips SET state = 'queued', attempts = attempts - :n_back "
        "WHERE job = :job AND position = :position AND state = 'running'",
        n_back=n_back,
        job=job_id,
        position=index,
    )
