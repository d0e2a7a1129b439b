"""Streams of a job: server-sent events while it is worked on, and its results as JSON lines."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator

from fastapi.sse import KEEPALIVE_COMMENT, format_sse_event
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from service.api.context import Context
from service.api.guard.admission import lift_deadline
from service.api.guard.byte_budget import SMALL_BYTES
from service.api.jobs.schemas import clip_progress, job_body
from service.api.routes.clips import LINES
from service.errors import OverloadedError, UnknownJobError
from service.jobs.job import Job, JobClip

# Proxies close connections on which nothing comes; the shortest default that is common is 30 s.
HEARTBEAT_S = 15.0
# How long to wait for room in memory before asking again.
_PAUSE_S = 0.05


class EventStream(StreamingResponse):
    """The events of one job until it ends (Server-Sent Events, WHATWG HTML, section 9.2).

    Each has the version of the job as its id, so ids grow. `clip`: a clip was finished; `job`: anything else
    has changed; `end`: the job has ended, and so does the stream. A stream that goes on behind an id sends
    every clip that was finished since then; they are in the store, so it may be another process that does.

    Args:
        context: The parts of the service.
        job_id: The job.
        since: Id of the last event that the client has; -1: none.
    """

    def __init__(self, context: Context, job_id: str, since: int) -> None:
        super().__init__((), media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})
        self._context, self._job_id, self._since = context, job_id, since

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events.

        Raises:
            OverloadedError: Too many streams are open.
        """
        with self._context.jobs.watching(self._job_id) as changed:
            lift_deadline(scope)
            self.body_iterator = self._events(changed)
            await super().__call__(scope, receive, send)

    async def _events(self, changed: asyncio.Event) -> AsyncIterator[bytes]:
        seen, sent_at = self._since, time.monotonic()
        while not self._context.jobs.is_closing:
            changed.clear()
            try:
                job, clips = await self._context.ask_store(self._read, seen)
            except UnknownJobError:  # deleted meanwhile
                return
            for event in _news(job, clips, seen):
                yield event
                sent_at = time.monotonic()
            if not job.is_unfinished:
                return
            seen = job.version
            if time.monotonic() - sent_at >= HEARTBEAT_S:
                yield KEEPALIVE_COMMENT
                sent_at = time.monotonic()
            await changed.wait()

    def _read(self, since: int) -> tuple[Job, list[JobClip]]:
        store = self._context.jobs.store
        job = store.get(self._job_id)
        return job, [] if since < 0 or since >= job.version else store.clips(self._job_id, since)


def _news(job: Job, clips: list[JobClip], seen: int) -> list[bytes]:
    """What has happened to a job since a version of it, in order."""
    finished = [clip for clip in clips if clip.version <= job.version]
    events = [
        format_sse_event(
            event="clip", id=str(clip.version), data_str=clip_progress(job, clip).model_dump_json()
        )
        for clip in finished
    ]
    if job.version > max([seen, *(clip.version for clip in finished)]):
        kind = "job" if job.is_unfinished else "end"
        events.append(
            format_sse_event(event=kind, id=str(job.version), data_str=job_body(job).model_dump_json())
        )
    return events


async def result_lines(context: Context, job: Job) -> AsyncIterator[bytes]:
    """The outcomes that there are, by index, one JSON object a line.

    One at a time is in memory, counted among the bytes of unread answers; there is no deadline, since it is
    the client's reading that takes time, which has a minimum rate (`connections.py`).
    """
    store, budget = context.jobs.store, context.budget
    for clip in await context.ask_store(store.clips, job.id):
        found = await context.ask_store(store.outcome, job.id, clip.index)
        if found is None:
            continue
        # The outcome is a JSON object, which gets one more member.
        line = f'{{"name":{json.dumps(clip.name)},{found.content[1:]}\n'.encode()
        n_counted = min(len(line), context.settings.max_bytes_in_flight)
        await _take(context, n_counted)
        try:
            for start in range(0, len(line), SMALL_BYTES):
                yield line[start : start + SMALL_BYTES]
        finally:
            budget.give_back(n_counted)


async def _take(context: Context, n_bytes: int) -> None:
    """Wait until there is room in memory."""
    while True:
        try:
            context.budget.take(n_bytes)
        except OverloadedError:
            await asyncio.sleep(_PAUSE_S)
        else:
            return


class ResultStream(StreamingResponse):
    """The results of a job, as far as there are any.

    Args:
        context: The parts of the service.
        job: The job.
    """

    def __init__(self, context: Context, job: Job) -> None:
        super().__init__(result_lines(context, job), media_type=LINES)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the results."""
        lift_deadline(scope)
        await super().__call__(scope, receive, send)
