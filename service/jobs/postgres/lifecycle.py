"""A job from its creation to its expiry: made, ended and reported, and what it leaves removed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

from sqlalchemy import Connection

from service.jobs.changes import check_room, first_of_owners, found_job
from service.jobs.job import Delivery, Job, NewJob, Webhook, WebhookEnd
from service.jobs.postgres.replica import Replica
from service.jobs.postgres.rows import find_by_key, find_job, lock, n_bytes, read_job, run


def create_job(
    connection: Connection,
    replica: Replica,
    job_id: str,
    new: NewJob,
    clips: Path,
    sizes: list[int],
    now: datetime,
) -> tuple[Job, bool]:
    """Keep a new job, unless it is there; the flag says that it is new.

    Args:
        connection: In a transaction.
        replica: Whose it is.
        job_id: Its id; a second try of the same call has the same one.
        new: The job.
        clips: Folder of its clips.
        sizes: Bytes of each clip.
        now: The time.
    """
    form = json.dumps(new.fields)
    # The owner's number of jobs, this replica's, and the folder change only with these locks.
    lock(connection, f"jobs of owner {new.owner}", replica.lock_name)
    if made := find_job(connection, "id = :id", id=job_id):
        return made, True  # the answer to COMMIT was lost
    if new.idempotency_key and (known := find_by_key(connection, new.owner, new.idempotency_key)):
        return known, False
    check_new_job(connection, replica, new.owner, new.max_owned, len(form) + sum(sizes))
    replica.beat(connection)
    _insert(connection, replica.id, job_id, new, form, sizes, now)
    # Inside the transaction: a job is never without its clips, and `sweep` sees both or neither.
    if clips.exists():
        replica.folder.take(clips, job_id)
    return read_job(connection, job_id), True


def check_new_job(
    connection: Connection, replica: Replica, owner: str, max_owned: int | None, n_more: int = 0
) -> None:
    """Check that a job could be kept on a replica.

    Args:
        connection: In a transaction.
        replica: Whose it would be.
        owner: Id of the API key.
        max_owned: Maximum number of jobs that the owner may have; None: any.
        n_more: Bytes of it, as far as they are known.

    Raises:
        OverloadedError: There are as many jobs, or as many bytes of them, as there may be.
        QuotaExceededError: The owner has as many as it may have.
    """
    n_owned = run(
        connection,
        "SELECT count(*) FROM jobs WHERE owner = :owner AND state <> 'expired'",
        owner=owner,
    ).scalar_one()
    n_jobs = run(
        connection,
        "SELECT count(*) FROM jobs WHERE replica = :replica AND state <> 'expired'",
        replica=replica.id,
    ).scalar_one()
    n_all = n_bytes(connection, replica.id) + n_more
    check_room(replica.limits, max_owned, n_owned=n_owned, n_jobs=n_jobs, n_bytes=n_all)


def _insert(
    connection: Connection,
    replica: str,
    job_id: str,
    new: NewJob,
    form: str,
    sizes: list[int],
    now: datetime,
) -> None:
    run(
        connection,
        "INSERT INTO jobs (id, replica, owner, state, n_clips, n_done, n_failed, version, created, "
        "n_bytes, idempotency_key, fields) VALUES (:id, :replica, :owner, 'queued', :n_clips, 0, 0, 1, "
        ":created, :n_bytes, :key, :fields)",
        id=job_id,
        replica=replica,
        owner=new.owner,
        n_clips=len(sizes),
        created=now.timestamp(),
        n_bytes=len(form) + sum(sizes),
        key=new.idempotency_key,
        fields=form,
    )
    for index, (name, size) in enumerate(zip(new.names, sizes, strict=True)):
        run(
            connection,
            "INSERT INTO job_clips (job, position, name, state, version, attempts, n_bytes) "
            "VALUES (:job, :position, :name, 'queued', 0, 0, :size)",
            job=job_id,
            position=index,
            name=json.dumps(name),
            size=size,
        )
    if new.webhook is not None:
        run(
            connection,
            "INSERT INTO job_webhooks (job, state, attempts, url, secret) "
            "VALUES (:job, 'waiting', 0, :url, :secret)",
            job=job_id,
            url=new.webhook.url,
            secret=new.webhook.secret,
        )


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


def claim_webhooks(
    connection: Connection, replica: Replica, now: datetime, limit: int, sending: Sequence[str]
) -> list[Delivery]:
    """Begin to send reports of a replica that are due; see the interface."""
    found = run(
        connection,
        "SELECT owner, job, url, secret, attempts FROM job_webhooks JOIN jobs ON jobs.id = job "
        "WHERE replica = :replica AND job_webhooks.state = 'pending' AND next <= :now "
        "ORDER BY attempts, next FOR UPDATE OF job_webhooks SKIP LOCKED",
        replica=replica.id,
        now=now.timestamp(),
    ).all()
    due = [
        Delivery(read_job(connection, job_id), Webhook(url, secret), attempts + 1)
        for _, job_id, url, secret, attempts in first_of_owners(found, limit, sending)
    ]
    for one in due:
        run(
            connection,
            "UPDATE job_webhooks SET attempts = :attempt, next = :next WHERE job = :id",
            attempt=one.attempt,
            next=(now + one.pause).timestamp(),
            id=one.job.id,
        )
    return due


def finish_webhook(connection: Connection, job_id: str, end: WebhookEnd) -> None:
    """Keep how the sending of a report has ended; its secret is forgotten."""
    run(connection, "UPDATE jobs SET version = version + 1 WHERE id = :id", id=job_id)
    run(
        connection,
        "UPDATE job_webhooks SET state = :end, next = NULL, secret = NULL "
        "WHERE job = :id AND state = 'pending'",
        end=end,
        id=job_id,
    )


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
