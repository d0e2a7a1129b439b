"""How jobs end, and how what they leave expires: on any replica, whoever took them."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import Connection

from service.jobs.job import Job
from service.jobs.postgres.replica import Replica
from service.jobs.postgres.rows import find_job, lock, read_job, run
from service.jobs.rows import found_job


def end_job(connection: Connection, job_id: str, state: str, now: datetime, kept_for: timedelta) -> Job:
    """End a job; from now on it needs neither its form nor its clips."""
    run(
        connection,
        "UPDATE jobs SET state = :state, version = version + 1, ended = :now, expires = :expires, "
        "fields = '[]', n_bytes = (SELECT coalesce(sum(octet_length(outcome)), 0) FROM job_clips "
        "WHERE job = id) WHERE id = :id",
        state=state,
        now=now.timestamp(),
        expires=(now + kept_for).timestamp(),
        id=job_id,
    )
    run(
        connection,
        "UPDATE job_webhooks SET state = 'pending', next = :now WHERE job = :id",
        now=now.timestamp(),
        id=job_id,
    )
    return read_job(connection, job_id)


def cancel_job(connection: Connection, job_id: str, now: datetime, kept_for: timedelta) -> Job:
    """End a job that has not ended; the outcomes that there are stay."""
    job = found_job(find_job(connection, "id = :id", id=job_id, then="FOR UPDATE"))
    if not job.is_unfinished:
        return job
    run(
        connection,
        "UPDATE job_clips SET state = 'cancelled' WHERE job = :id AND outcome IS NULL",
        id=job_id,
    )
    return end_job(connection, job_id, "cancelled", now, kept_for)


def expire_jobs(connection: Connection, replica: Replica, now: datetime) -> list[str]:
    """Remove what has expired, of any replica, and clips here that are not needed any more."""
    # All replicas do this, and would wait for each other's rows in any order.
    lock(connection, "expiry of jobs", replica.lock_name)
    gone = run(
        connection,
        "DELETE FROM jobs WHERE state = 'expired' AND expires <= :now RETURNING id",
        now=now.timestamp(),
    ).all()
    expired = run(
        connection,
        "UPDATE jobs SET state = 'expired', version = version + 1, expires = :until, n_bytes = 0, "
        "idempotency_key = NULL WHERE expires <= :now RETURNING id",
        until=(now + replica.limits.kept_for).timestamp(),
        now=now.timestamp(),
    ).all()
    ids = [job_id for (job_id,) in expired]
    run(connection, "DELETE FROM job_clips WHERE job = ANY(CAST(:ids AS text[]))", ids=ids)
    run(
        connection,
        "UPDATE job_webhooks SET state = 'failed', secret = NULL, next = NULL "
        "WHERE job = ANY(CAST(:ids AS text[])) AND state = 'pending'",
        ids=ids,
    )
    replica.sweep(connection)
    return [*(job_id for (job_id,) in gone), *ids]
