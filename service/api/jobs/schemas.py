"""Jobs as they go over the wire."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from pydantic import Field

from service.api.schemas import Wire
from service.jobs.job import JOB_ID, ClipState, Job, JobClip, JobState, WebhookState

EVENT_ID = "^[0-9]{1,15}$"


class JobLinks(Wire):
    """Addresses of a job."""

    self: str
    results: str
    events: str


class JobBody(Wire):
    """A job."""

    id: str = Field(pattern=JOB_ID, examples=["job_018f2a6c1b7e5d0c9a4f3e2b4d6f"])
    state: JobState = Field(
        description="queued, running; done: every clip has an answer or a problem of its own; failed: no "
        "clip could be answered; cancelled; expired: the results are gone"
    )
    n_clips: int
    n_done: int = Field(description="clips that have an answer or a problem")
    n_failed: int = Field(description="those of them that have a problem")
    progress: float = Field(description="0..1: share of clips that are done")
    created: datetime
    started: datetime | None = Field(description="when the first clip was begun")
    ended: datetime | None
    expires: datetime | None = Field(description="when the results go, or, once they are gone, this record")
    webhook: WebhookState | None = Field(
        description="waiting for the end, pending, delivered, failed (given up); null without one"
    )
    links: JobLinks


class JobClipBody(Wire):
    """What has become of one clip of a job."""

    index: int = Field(description="place in the request, from 0")
    name: str = Field(description="file name as it was sent")
    state: ClipState


class JobWithClips(JobBody):
    """A job with its clips."""

    clips: list[JobClipBody] = Field(description="in the order sent; none once the job has expired")


class JobPage(Wire):
    """One page of jobs, the latest first."""

    jobs: list[JobBody]
    next_cursor: str | None = Field(description="send as `cursor` for the next page; null on the last one")


class ClipProgress(JobClipBody):
    """Data of the event `clip`."""

    n_done: int
    n_clips: int
    progress: float


def event_schema() -> dict[str, Any]:
    """What each server-sent event is."""
    data = {"type": "string", "contentMediaType": "application/json", "description": "A job, or for `clip` "}
    data["description"] += "its index, name and state, and n_done, n_clips and progress of the job."
    properties = {
        "event": {"enum": ["job", "clip", "end"]},
        "id": {"type": "string", "pattern": EVENT_ID, "description": "Grows from event to event."},
        "data": data,
    }
    return {"type": "object", "properties": properties, "required": list(properties)}


def job_body(job: Job) -> JobBody:
    """A job on the wire."""
    return JobBody.model_validate(_facts(job))


def job_with_clips(job: Job, clips: Sequence[JobClip]) -> JobWithClips:
    """A job and its clips on the wire."""
    return JobWithClips.model_validate({**_facts(job), "clips": [_clip(one) for one in clips]})


def clip_progress(job: Job, clip: JobClip) -> ClipProgress:
    """What the event of a finished clip says; the counts are those of the moment when it is sent."""
    return ClipProgress.model_validate(
        {**_clip(clip), "n_done": job.n_done, "n_clips": job.n_clips, "progress": _progress(job)}
    )


def webhook_body(job: Job) -> str:
    """The report of a job's end: type, time and data, as Standard Webhooks recommends."""
    ended = job.ended or job.created
    return json.dumps(
        {
            "type": f"job.{job.state}",
            "timestamp": ended.isoformat(),
            "data": job_body(job).model_dump(mode="json"),
        }
    )


def _facts(job: Job) -> dict[str, object]:
    address = f"/v1/jobs/{job.id}"
    return {
        "id": job.id,
        "state": job.state,
        "n_clips": job.n_clips,
        "n_done": job.n_done,
        "n_failed": job.n_failed,
        "progress": _progress(job),
        "created": job.created,
        "started": job.started,
        "ended": job.ended,
        "expires": job.expires,
        "webhook": job.webhook,
        "links": {"self": address, "results": f"{address}/results", "events": f"{address}/events"},
    }


def _clip(clip: JobClip) -> dict[str, object]:
    return {"index": clip.index, "name": clip.name, "state": clip.state}


def _progress(job: Job) -> float:
    return round(job.n_done / job.n_clips, 4)
