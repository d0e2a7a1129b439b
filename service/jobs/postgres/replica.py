"""A replica: the one whose jobs a process works on, and those that are gone for good."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import Connection

from service.jobs.folder import JobFolder
from service.jobs.job import JobLimits
from service.jobs.postgres.rows import lock, run

# How often a replica says that it is there, and the shortest silence after which it is gone.
_BEAT = timedelta(minutes=1)
_MIN_SILENCE = timedelta(hours=1)
# A replica that has itself been silent for so long judges no other one before it has been there for so long
# again: the database was away from all of them, perhaps, or its clock was set.
_BREAK = timedelta(minutes=5)


@dataclass(frozen=True)
class Replica:
    """What its jobs have in common.

    Attributes:
        id: Names it in the database, also after a restart.
        folder: Where the clips of its jobs are.
        limits: What its jobs may take.
    """

    id: str
    folder: JobFolder
    limits: JobLimits

    @property
    def lock_name(self) -> str:
        """Of the lock with which its jobs and its folder are changed together."""
        return f"jobs on {self.id}"

    def take_up(self, connection: Connection) -> None:
        """Queue again what a process before has left behind."""
        lock(connection, self.lock_name)
        self.beat(connection)
        run(
            connection,
            "UPDATE job_clips SET state = 'queued' FROM jobs "
            "WHERE jobs.id = job AND replica = :replica AND job_clips.state = 'running'",
            replica=self.id,
        )
        run(
            connection,
            "UPDATE jobs SET state = 'queued', version = version + 1 "
            "WHERE replica = :replica AND state = 'running'",
            replica=self.id,
        )
        self.sweep(connection)

    def sweep(self, connection: Connection) -> None:
        """Delete the clips of jobs that other replicas have ended, or that were never kept."""
        wanted = run(
            connection,
            "SELECT job, position FROM job_clips JOIN jobs ON jobs.id = job "
            "WHERE replica = :replica AND job_clips.state IN ('queued', 'running')",
            replica=self.id,
        )
        self.folder.sweep({(job, position) for job, position in wanted})

    def beat(self, connection: Connection) -> None:
        """Say that this replica is there, by the clock of the database."""
        run(
            connection,
            "INSERT INTO replicas (id, since, seen) VALUES (:id, now(), now()) "
            "ON CONFLICT (id) DO UPDATE SET seen = now(), since = CASE "
            "WHEN replicas.seen < now() - CAST(:pause AS interval) THEN now() ELSE replicas.since END "
            "WHERE replicas.seen < now() - CAST(:beat AS interval)",
            id=self.id,
            pause=_BREAK,
            beat=_BEAT,
        )

    def take_over(self, connection: Connection) -> list[str]:
        """Take over the jobs of replicas that are gone, if they have not ended, or their end is not reported.

        A replica is gone when it has not been seen for as long as results are kept. Its clips are gone with
        it, but not those at URLs. If it comes back, these jobs are not its own any more.
        """
        taken = run(
            connection,
            """
            WITH gone AS (
                DELETE FROM replicas WHERE seen < now() - CAST(:silence AS interval) AND EXISTS (
                    SELECT 1 FROM replicas AS own
                    WHERE own.id = :replica AND own.since < now() - CAST(:pause AS interval)
                )
                RETURNING id
            )
            UPDATE jobs SET replica = :replica WHERE replica IN (SELECT id FROM gone) AND (
                ended IS NULL
                OR EXISTS (SELECT 1 FROM job_webhooks WHERE job = jobs.id AND job_webhooks.state = 'pending')
            )
            RETURNING id
            """,
            silence=max(self.limits.kept_for, _MIN_SILENCE),
            replica=self.id,
            pause=_BREAK,
        )
        return [job_id for (job_id,) in taken]
