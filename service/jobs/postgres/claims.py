"""Clips that are worked on: begun, finished, or queued again."""

from __future__ import annotations

import json
from datetime import datetime

from sqlalchemy import Connection

from service.jobs.changes import check_answer_fits, end_of
from service.jobs.job import Claim, Job, Outcome
from service.jobs.postgres.lifecycle import end_job
from service.jobs.postgres.replica import Replica
from service.jobs.postgres.rows import find_job, n_bytes, read_job, run
from service.jobs.turns import Turns


class Claims:
    """The clips of one replica that this process works on. Called in transactions, which may be repeated.

    Args:
        replica: Whose they are.
    """

    def __init__(self, replica: Replica) -> None:
        self._replica = replica
        self._turns = Turns()
        # Which attempt of a clip. One that runs but for these was claimed without an answer.
        self._held: dict[tuple[str, int], int] = {}

    def hold(self, claim: Claim) -> None:
        """Know that a clip is worked on: the claim has been committed."""
        self._held[claim.job_id, claim.index] = claim.attempt

    def let_go(self, claim: Claim) -> None:
        """Know that a clip is not worked on any more, unless it was begun anew."""
        if self._held.get((claim.job_id, claim.index)) == claim.attempt:
            del self._held[claim.job_id, claim.index]

    def begin(self, connection: Connection, now: datetime) -> Claim | None:
        """Begin the next clip, owners taking turns; None: there is none."""
        self._reconcile(connection)
        found = self._next_job(connection)
        if found is None:
            return None
        job_id, state, fields = found
        if state == "queued":
            run(
                connection,
                "UPDATE jobs SET state = 'running', version = version + 1, "
                "started = coalesce(started, :now) WHERE id = :id",
                now=now.timestamp(),
                id=job_id,
            )
        index, attempt = run(
            connection,
            "UPDATE job_clips SET state = 'running', attempts = attempts + 1 WHERE job = :id "
            "AND position = (SELECT min(position) FROM job_clips WHERE job = :id AND state = 'queued') "
            "RETURNING position, attempts",
            id=job_id,
        ).one()
        form = tuple((name, value) for name, value in json.loads(fields))
        return Claim(job_id, index, self._replica.folder.clip(job_id, index), form, attempt)

    def _next_job(self, connection: Connection) -> tuple[str, str, str] | None:
        """Id, state and form of the oldest job of the owner whose turn it is, and who has it with that."""
        queued = (
            "FROM jobs WHERE replica = :replica AND ended IS NULL "
            "AND EXISTS (SELECT 1 FROM job_clips WHERE job = id AND job_clips.state = 'queued')"
        )
        owners = run(
            connection, f"SELECT owner {queued} GROUP BY owner ORDER BY min(id)", replica=self._replica.id
        ).scalars()
        for owner in self._turns.line(owners):
            # Not one that somebody ends now, who may wait for a lock that is held here.
            found = run(
                connection,
                f"SELECT id, state, fields {queued} AND owner = :owner ORDER BY id "
                "LIMIT 1 FOR UPDATE SKIP LOCKED",
                replica=self._replica.id,
                owner=owner,
            ).first()
            if found is not None:
                self._turns.took(owner)
                return found.id, found.state, found.fields
        return None

    def _reconcile(self, connection: Connection) -> None:
        """Queue clips again that nobody works on, since the answer to their claim or release was lost.

        Those whose job was ended while they were worked on are forgotten.
        """
        found = run(
            connection,
            "SELECT job, position FROM job_clips JOIN jobs ON jobs.id = job "
            "WHERE replica = :replica AND ended IS NULL AND job_clips.state = 'running'",
            replica=self._replica.id,
        )
        running = {(job_id, index) for job_id, index in found}
        for job_id, index in running - self._held.keys():
            self._queue(connection, job_id, index)
        for clip in self._held.keys() - running:
            del self._held[clip]

    def finish(self, connection: Connection, claim: Claim, outcome: Outcome, now: datetime) -> Job | None:
        """Keep the outcome of a clip; None: it is not wanted any more.

        Raises:
            OverloadedError: An answer has no room.
        """
        job = find_job(
            connection,
            "id = :id AND replica = :replica",  # another one may have taken it over meanwhile
            id=claim.job_id,
            replica=self._replica.id,
            then="FOR UPDATE",
        )
        row = run(
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
        n_kept = n_bytes(connection, self._replica.id)
        check_answer_fits(outcome, self._replica.limits, n_kept + n_more)
        return self._keep(connection, claim, outcome, n_more, now)

    def _keep(
        self, connection: Connection, claim: Claim, outcome: Outcome, n_more: int, now: datetime
    ) -> Job:
        is_failed = outcome.member == "problem"
        version = run(
            connection,
            "UPDATE jobs SET n_done = n_done + 1, n_failed = n_failed + :failed, version = version + 1, "
            "n_bytes = n_bytes + :more WHERE id = :id RETURNING version",
            failed=int(is_failed),
            more=n_more,
            id=claim.job_id,
        ).scalar_one()
        run(
            connection,
            "UPDATE job_clips SET state = :state, version = :version, outcome = :outcome, "
            "n_bytes = n_bytes + :more WHERE job = :job AND position = :position",
            state="failed" if is_failed else "done",
            version=version,
            outcome=outcome.content,
            more=n_more,
            job=claim.job_id,
            position=claim.index,
        )
        job = read_job(connection, claim.job_id)
        end = end_of(job)
        return job if end is None else end_job(connection, job.id, end, now, self._replica.limits.kept_for)

    def release(self, connection: Connection, claim: Claim, *, is_tried: bool) -> None:
        """Queue a clip again, unless it has been and was begun anew; whether the attempt counts."""
        self._queue(connection, claim.job_id, claim.index, n_back=int(not is_tried), attempt=claim.attempt)

    def _queue(
        self, connection: Connection, job_id: str, index: int, n_back: int = 0, attempt: int | None = None
    ) -> None:
        run(
            connection,
            "UPDATE job_clips SET state = 'queued', attempts = attempts - :n_back FROM jobs "
            "WHERE job = :job AND position = :position AND job_clips.state = 'running' "
            "AND (CAST(:attempt AS integer) IS NULL OR attempts = :attempt) "
            "AND jobs.id = job AND replica = :replica",
            n_back=n_back,
            attempt=attempt,
            job=job_id,
            position=index,
            replica=self._replica.id,
        )
