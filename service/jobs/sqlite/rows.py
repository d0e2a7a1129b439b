"""The tables of jobs in SQLite, and statements on them."""

from __future__ import annotations

import sqlite3
from datetime import datetime

from service.jobs.changes import found_job, job_of
from service.jobs.job import Job, NewJob

# Times are seconds since 1970, so that they can be compared. The long columns come last, since SQLite reads a
# row from its beginning. `n_bytes` of a clip: of its file or, once there is one, of its outcome. `job_facts`:
# rows as `job_of` reads them.
SCHEMA = """
CREATE TABLE IF NOT EXISTS jobs (
    id TEXT PRIMARY KEY,
    owner TEXT NOT NULL,
    state TEXT NOT NULL,
    n_clips INTEGER NOT NULL,
    n_done INTEGER NOT NULL DEFAULT 0,
    n_failed INTEGER NOT NULL DEFAULT 0,
    version INTEGER NOT NULL DEFAULT 1,
    created REAL NOT NULL,
    started REAL,
    ended REAL,
    expires REAL,
    n_bytes INTEGER NOT NULL,
    idempotency_key TEXT,
    fields TEXT NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS jobs_by_owner ON jobs (owner);
CREATE INDEX IF NOT EXISTS jobs_unfinished ON jobs (id) WHERE ended IS NULL;
CREATE UNIQUE INDEX IF NOT EXISTS jobs_by_key ON jobs (owner, idempotency_key)
    WHERE idempotency_key IS NOT NULL;
CREATE TABLE IF NOT EXISTS clips (
    job TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    position INTEGER NOT NULL,
    name TEXT NOT NULL,
    state TEXT NOT NULL DEFAULT 'queued',
    version INTEGER NOT NULL DEFAULT 0,
    attempts INTEGER NOT NULL DEFAULT 0,
    n_bytes INTEGER NOT NULL,
    outcome TEXT,
    UNIQUE (job, position)
) STRICT;
CREATE INDEX IF NOT EXISTS clips_queued ON clips (job, position) WHERE state = 'queued';
CREATE TABLE IF NOT EXISTS webhooks (
    job TEXT PRIMARY KEY REFERENCES jobs (id) ON DELETE CASCADE,
    state TEXT NOT NULL DEFAULT 'waiting',
    attempts INTEGER NOT NULL DEFAULT 0,
    next REAL,
    url TEXT NOT NULL,
    secret TEXT
) STRICT;
CREATE VIEW IF NOT EXISTS job_facts AS
    SELECT id, owner, state, n_clips, n_done, n_failed, version, created, started, ended, expires,
        (SELECT state FROM webhooks WHERE job = id) AS webhook, idempotency_key
    FROM jobs;
"""


def insert_job(
    connection: sqlite3.Connection, job_id: str, new: NewJob, form: str, sizes: list[int], now: datetime
) -> None:
    """Write a new job with its clips and its webhook."""
    connection.execute(
        "INSERT INTO jobs (id, owner, state, n_clips, created, n_bytes, idempotency_key, fields) "
        "VALUES (?, ?, 'queued', ?, ?, ?, ?, ?)",
        (
            job_id,
            new.owner,
            len(sizes),
            now.timestamp(),
            len(form) + sum(sizes),
            new.idempotency_key,
            form,
        ),
    )
    connection.executemany(
        "INSERT INTO clips (job, position, name, n_bytes) VALUES (?, ?, ?, ?)",
        [
            (job_id, index, name, size)
            for index, (name, size) in enumerate(zip(new.names, sizes, strict=True))
        ],
    )
    if new.webhook is not None:
        connection.execute(
            "INSERT INTO webhooks (job, url, secret) VALUES (?, ?, ?)",
            (job_id, new.webhook.url, new.webhook.secret),
        )


def find_by_key(connection: sqlite3.Connection, owner: str, idempotency_key: str) -> Job | None:
    """The job of an idempotency key."""
    row = connection.execute(
        "SELECT * FROM job_facts WHERE owner = ? AND idempotency_key = ?", (owner, idempotency_key)
    ).fetchone()
    return None if row is None else job_of(row)


def read_job(connection: sqlite3.Connection, job_id: str) -> Job:
    """One job.

    Raises:
        UnknownJobError: There is none.
    """
    row = connection.execute("SELECT * FROM job_facts WHERE id = ?", (job_id,)).fetchone()
    return found_job(None if row is None else job_of(row))


def n_bytes(connection: sqlite3.Connection) -> int:
    """Bytes of all jobs."""
    return int(connection.execute("SELECT coalesce(sum(n_bytes), 0) FROM jobs").fetchone()[0])
