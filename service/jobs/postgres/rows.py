"""Statements on the tables of jobs that all other files here need, and rows as values."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, CursorResult, text

from service.jobs.changes import found_job, job_of
from service.jobs.job import Job

FACTS = """
    SELECT id, owner, state, n_clips, n_done, n_failed, version, created, started, ended, expires,
        (SELECT state FROM job_webhooks WHERE job = id) AS webhook, idempotency_key
    FROM jobs
"""
"""The fields of a job in their order, and a last column, as `job_of` reads them."""


def run(connection: Connection, statement: str, **values: object) -> CursorResult[*tuple[Any, ...]]:
    """Run one statement."""
    return connection.execute(text(statement), values)


def lock(connection: Connection, *names: str) -> None:
    """Until the end of the transaction; always that of a replica last, so that none wait in a circle."""
    for name in names:
        run(connection, "SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))", name=name)


def find_job(connection: Connection, condition: str, *, then: str = "", **values: object) -> Job | None:
    """The job of a condition; `then`: what follows it."""
    row = run(connection, f"{FACTS} WHERE {condition} {then}", **values).first()
    return None if row is None else job_of(row)


def find_by_key(connection: Connection, owner: str, key: str) -> Job | None:
    """The job of an idempotency key."""
    return find_job(connection, "owner = :owner AND idempotency_key = :key", owner=owner, key=key)


def read_job(connection: Connection, job_id: str) -> Job:
    """One job.

    Raises:
        UnknownJobError: There is none.
    """
    return found_job(find_job(connection, "id = :id", id=job_id))


def n_bytes(connection: Connection, replica: str) -> int:
    """Bytes of all jobs of a replica."""
    query = "SELECT coalesce(sum(n_bytes), 0) FROM jobs WHERE replica = :replica"
    return int(run(connection, query, replica=replica).scalar_one())
