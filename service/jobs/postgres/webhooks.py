"""Reports of the ends of jobs: which are due, and what became of them."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection

from service.jobs.job import Delivery, Webhook
from service.jobs.postgres.rows import read_job, run


def due_webhooks(connection: Connection, replica: str, now: datetime, limit: int) -> list[Delivery]:
    """Reports that a replica has to send, the longest due first."""
    due = run(
        connection,
        "SELECT job, url, secret, attempts FROM job_webhooks JOIN jobs ON jobs.id = job "
        "WHERE replica = :replica AND job_webhooks.state = 'pending' AND next <= :now "
        "ORDER BY next LIMIT :limit",
        replica=replica,
        now=now.timestamp(),
        limit=limit,
    ).all()
    return [
        Delivery(read_job(connection, job_id), Webhook(url, secret), attempts + 1)
        for job_id, url, secret, attempts in due
    ]


def keep_try(connection: Connection, job_id: str, *, delivered: bool, again: datetime | None) -> None:
    """Keep what became of a report; `again`: when to send it again, None: never."""
    run(
        connection,
        "UPDATE job_webhooks SET state = :state, attempts = attempts + 1, next = :next, "
        "secret = CASE WHEN :state = 'pending' THEN secret END WHERE job = :id AND state = 'pending'",
        state="delivered" if delivered else "failed" if again is None else "pending",
        next=None if again is None else again.timestamp(),
        id=job_id,
    )
    run(connection, "UPDATE jobs SET version = version + 1 WHERE id = :id", id=job_id)
