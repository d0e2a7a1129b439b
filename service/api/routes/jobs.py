"""/v1/jobs: clips that take long, or many, worked on behind ordinary requests."""

from __future__ import annotations

import hashlib
import re
from contextlib import suppress
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Header, Query, Request, Response, status
from fastapi import Path as InPath
from starlette.concurrency import run_in_threadpool

from service import errors
from service.api import etags
from service.api.context import Context, ContextDep, cancelled_by_disconnect
from service.api.forms import JobForm
from service.api.guard.guarded_store import current_requester, record_edit_of_request
from service.api.headers import check_cursor, request_id_of
from service.api.intake.public_network import public_url
from service.api.intake.upload import Uploads, receive_uploads
from service.api.jobs.events import EventStream, ResultStream
from service.api.jobs.schemas import (
    EVENT_ID,
    JobBody,
    JobPage,
    JobWithClips,
    event_schema,
    job_body,
    job_with_clips,
)
from service.api.jobs.webhooks import check_webhook
from service.api.lines import LINES
from service.api.middleware import JOBS
from service.api.openapi import documented, lines_schema, request_body
from service.api.question import Question
from service.jobs.job import JOB_ID, Job, JobClip, NewJob, Webhook
from service.process import sync_all

_JOB_FIELDS = ("webhook", "webhook_secret")
_KEY = "^[!-~]{1,255}$"

router = APIRouter(
    prefix=JOBS,
    tags=["jobs"],
    responses=documented(
        errors.OverloadedError,
        errors.StoreUnavailableError,
        errors.RequestTimeoutError,
        errors.InvalidRequestError,
        errors.InvalidOptionError,
    ),
)

JobId = Annotated[str, InPath(json_schema_extra={"pattern": JOB_ID})]
IfChanged = Annotated[
    str | None, Header(description="304 if the job still has this ETag", json_schema_extra=etags.DOCUMENTED)
]
_ONE_JOB = documented(errors.UnknownJobError)


@router.post(
    "",
    status_code=status.HTTP_202_ACCEPTED,
    response_model=JobBody,
    responses=documented(
        errors.RequestError,
        errors.LabelError,
        errors.UnknownBundleError,
        errors.UnknownLabelSetError,
        errors.InvalidNameError,
        errors.QuotaExceededError,
        errors.UnavailableError,
    ),
    openapi_extra=request_body(JobForm, "multipart/form-data"),
)
async def post_job(
    request: Request,
    context: ContextDep,
    idempotency_key: Annotated[
        str | None,
        Header(
            description="the client's own name for this request: sent again, it returns the same job, as "
            "long as that has not expired, and its body is not read",
            json_schema_extra={"pattern": _KEY},
        ),
    ] = None,
) -> Response:
    """Keep clips and the names to choose from, to be worked on behind ordinary requests.

    The form is that of /v1/classify. All that is wrong with it is told at once; what is wrong with a clip is
    told in its result.
    """
    if idempotency_key is not None and not re.fullmatch(_KEY, idempotency_key):
        raise errors.InvalidOptionError("Idempotency-Key holds 1 to 255 visible ASCII characters.")
    store, owner = context.jobs.store, current_requester.get().owner.id
    if idempotency_key and (known := await context.ask_store(store.find, owner, idempotency_key)):
        return _accepted(known)
    # Before the clips arrive, which may be gigabytes.
    await context.ask_store(store.check_room, owner, _max_owned())
    async with (
        receive_uploads(request, context.jobs.arriving, context.form_limits, context.budget) as uploads,
        cancelled_by_disconnect(request),
    ):
        new = await _new_job(context, uploads, request_id_of(request.scope), idempotency_key)
        clips = await run_in_threadpool(_gather, uploads)
        job, _ = await context.change_jobs(store.create, new, clips, context.jobs.clock())
        context.jobs.added.set()
        # Before what has arrived is no longer counted; the runner counts again within a second.
        with suppress(errors.AhseError):
            context.jobs.arriving.set_stored((await context.ask_store(context.jobs.usage)).n_bytes)
    return _accepted(job)


def _max_owned() -> int | None:
    """How many jobs the requester may have; None: any number."""
    key = current_requester.get().key
    return None if key is None else key.quotas.jobs


async def _new_job(
    context: Context, uploads: Uploads, request_id: str, idempotency_key: str | None
) -> NewJob:
    """The job of a form, once all of it is known to be acceptable."""
    fields = tuple(field for field in uploads.fields if field[0] not in _JOB_FIELDS)
    question = Question(context, fields, request_id)
    await question.check()
    if question.form.returned != "json":
        raise errors.InvalidOptionError("The results of jobs are JSON; leave `return` out.")
    if question.form.url is not None:
        if context.fetcher is None:
            raise errors.UrlRefusedError(
                "This service does not fetch clips from URLs; send the clips themselves: -F files=@clip.mp4"
            )
        public_url(question.form.url, "clip")
    return NewJob(
        owner=current_requester.get().owner.id,
        fields=fields,
        names=uploads.names,
        idempotency_key=idempotency_key,
        webhook=await _webhook(context, uploads),
        max_owned=_max_owned(),
    )


async def _webhook(context: Context, uploads: Uploads) -> Webhook | None:
    """Where the end is to be reported, if that is allowed and possible."""
    sent = [[value for name, value in uploads.fields if name == field] for field in _JOB_FIELDS]
    if any(len(values) > 1 for values in sent):
        raise errors.InvalidOptionError("webhook and webhook_secret are sent once each.")
    webhook = check_webhook(*(values[0] if values else None for values in sent))
    if webhook is None:
        return None
    if context.jobs.sender is None:
        raise errors.UrlRefusedError(
            "This service reports to no webhooks; who runs it can allow that with AHSE_WEBHOOKS=1. Read the "
            "job's events instead."
        )
    await context.jobs.sender.check(webhook)
    return webhook


def _gather(uploads: Uploads) -> Path:
    """Put the clips into a folder of their own, under their numbers, so that they survive a power cut."""
    folder = uploads.clips[0].path.parent / "job"
    folder.mkdir()
    for index, clip in enumerate(uploads.clips):
        if clip.url is None:
            clip.path.rename(folder / str(index))
    sync_all(folder)
    return folder


def _accepted(job: Job) -> Response:
    body = job_body(job)
    return Response(
        body.model_dump_json(),
        status_code=status.HTTP_202_ACCEPTED,
        media_type="application/json",
        headers={"Location": body.links.self},
    )


@router.get("")
async def list_jobs(
    context: ContextDep,
    cursor: Annotated[
        str | None,
        Query(description="next_cursor of the page before", json_schema_extra={"pattern": JOB_ID}),
    ] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> JobPage:
    """The jobs of this key, or of all keys for an admin key, the latest first, a page at a time."""
    before = check_cursor(cursor, JOB_ID)
    key = current_requester.get().key
    owner = None if key is None or key.permits("admin") else key.id
    found = await context.ask_store(context.jobs.store.page, owner, before, limit + 1)
    return JobPage(
        jobs=[job_body(job) for job in found[:limit]],
        next_cursor=found[limit - 1].id if len(found) > limit else None,
    )


@router.get(
    "/{job_id}",
    response_model=JobWithClips,
    responses={304: {"description": "The job has not changed."}, **_ONE_JOB},
)
async def get_job(job_id: JobId, context: ContextDep, if_none_match: IfChanged = None) -> Response:
    """A job, and what has become of each of its clips."""
    etags.read_etags(if_none_match)
    job, clips = await context.ask_store(_read, context, job_id)
    body = job_with_clips(job, clips).model_dump_json()
    # Not the version, which stays when work on a further clip begins.
    etag = hashlib.sha256(body.encode()).hexdigest()
    headers = {"ETag": etags.quoted(etag)}
    if etags.is_known(etag, if_none_match):
        return Response(status_code=status.HTTP_304_NOT_MODIFIED, headers=headers)
    return Response(body, media_type="application/json", headers=headers)


def _read(context: Context, job_id: str) -> tuple[Job, list[JobClip]]:
    job = context.jobs.visible(job_id)
    return job, context.jobs.store.clips(job_id)


@router.get(
    "/{job_id}/results",
    response_class=Response,
    responses={
        200: {
            "description": "A line for each finished clip, by index: its answer, or a problem.",
            "content": {LINES: {"schema": lines_schema()}},
        },
        **documented(errors.UnknownJobError, errors.JobExpiredError),
    },
)
async def get_results(job_id: JobId, context: ContextDep) -> Response:
    """The results as JSON lines: all of them, or those that there are so far."""
    job = await context.ask_store(context.jobs.visible, job_id)
    if job.state == "expired":
        raise errors.JobExpiredError("The results of this job have been deleted because of their age.")
    return ResultStream(context, job_id)


@router.get(
    "/{job_id}/events",
    response_class=Response,
    responses={
        200: {
            "description": "Server-sent events until the job ends: `clip` (a clip was finished), `job` "
            "(anything else has changed) and `end`. The data of the last two is the job.",
            "content": {"text/event-stream": {"schema": event_schema()}},
        },
        204: {"description": "The job has ended, and the client knows all its events."},
        **_ONE_JOB,
    },
)
async def get_events(
    job_id: JobId,
    context: ContextDep,
    last_event_id: Annotated[
        str | None,
        Header(
            description="id of the last event that the client has: the stream goes on behind it",
            json_schema_extra={"pattern": EVENT_ID},
        ),
    ] = None,
) -> Response:
    """What happens to a job, as it happens."""
    if last_event_id is not None and not re.fullmatch(EVENT_ID, last_event_id):
        raise errors.InvalidOptionError("Last-Event-ID is not the id of an event of this service.")
    job = await context.ask_store(context.jobs.visible, job_id)
    since = -1 if last_event_id is None else int(last_event_id)
    if not job.is_unfinished and since >= job.version:
        # Tells a browser not to connect again.
        return Response(status_code=status.HTTP_204_NO_CONTENT)
    return EventStream(context, job_id, since)


@router.post("/{job_id}/cancel", response_model=JobBody, responses=_ONE_JOB)
async def cancel_job(job_id: JobId, context: ContextDep) -> JobBody:
    """End the work on a job; its results so far stay until it expires. One that has ended stays as it is."""
    job = await context.change_jobs(_cancel, context, job_id)
    context.jobs.stop(job_id)
    return job_body(job)


def _cancel(context: Context, job_id: str) -> Job:
    job = context.jobs.visible(job_id)
    if not job.is_unfinished:
        return job
    job = context.jobs.store.cancel(job_id, context.jobs.clock())
    record_edit_of_request("cancel_job", f"jobs/{job_id}")
    return job


@router.delete("/{job_id}", status_code=status.HTTP_204_NO_CONTENT, responses=_ONE_JOB)
async def delete_job(job_id: JobId, context: ContextDep) -> None:
    """Delete a job with its results, at any time; the work on it ends."""
    await context.change_jobs(_delete, context, job_id)
    context.jobs.stop(job_id)


def _delete(context: Context, job_id: str) -> None:
    context.jobs.visible(job_id)
    context.jobs.store.delete(job_id)
    record_edit_of_request("delete_job", f"jobs/{job_id}")
