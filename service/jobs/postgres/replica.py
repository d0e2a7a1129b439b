"""A replica: the one whose jobs a process works on."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection

from service.jobs.folder import JobFolder
from service.jobs.job import JobLimits
from service.jobs.postgres.rows import lock, run


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
