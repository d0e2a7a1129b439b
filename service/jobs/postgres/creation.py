"""New jobs: whether there is room for one, and its rows."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path

from sqlalchemy import Connection

from service.errors import OverloadedError, QuotaExceededError
from service.jobs.job import Job, NewJob
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
    _check_room(connection, replica, new, len(form) + sum(sizes))
    replica.beat(connection)
    _insert(connection, replica.id, job_id, new, form, sizes, now)
    # Inside the transaction: a job is never without its clips, and `sweep` sees both or neither.
    if clips.exists():
        replica.folder.take(clips, job_id)
    return read_job(connection, job_id), True


def _check_room(connection: Connection, replica: Replica, new: NewJob, n_more: int) -> None:
    n_owned = run(
        connection,
        "SELECT count(*) FROM jobs WHERE owner = :owner AND state <> 'expired'",
        owner=new.owner,
    ).scalar_one()
    if new.max_owned is not None and n_owned >= new.max_owned:
        raise QuotaExceededError(
            f"this key may have {new.max_owned} jobs, and has {n_owned}; delete one, or wait until "
            "one expires"
        )
    n_jobs = run(
        connection,
        "SELECT count(*) FROM jobs WHERE replica = :replica AND state <> 'expired'",
        replica=replica.id,
    ).scalar_one()
    limits = replica.limits
    if n_jobs >= limits.max_jobs or n_bytes(connection, replica.id) + n_more > limits.max_bytes:
        raise OverloadedError(
            "The service keeps as many jobs as it can; delete jobs that have ended, or try again later."
        )


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
        "INSERT INTO jobs (id, replica, owner, state, n_clips, n_done, n_failed, version, created, turn, "
        "n_bytes, idempotency_key, fields) VALUES (:id, :replica, :owner, 'queued', :n_clips, 0, 0, 1, "
        ":created, 0, :n_bytes, :key, :fields)",
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
