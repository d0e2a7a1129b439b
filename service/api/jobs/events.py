"""Streams of a job: server-sent events while it is worked on, and its results as JSON lines."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable
from contextlib import aclosing

from fastapi.sse import KEEPALIVE_COMMENT, format_sse_event
from starlette.requests import ClientDisconnect
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from service.api.context import Context
from service.api.guard.admission import lift_deadline
from service.api.guard.byte_budget import ByteShare
from service.api.jobs.schemas import clip_progress, job_body
from service.api.lines import LINES, count_line, cut_line
from service.errors import OverloadedError, UnknownJobError
from service.jobs.changes import found_job
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


async def result_lines(context: Context, job_id: str) -> AsyncGenerator[bytes, None]:
    """The outcomes that there are, by index, one JSON object a line, in pieces.

    One at a time is in memory, counted among the bytes of unread answers before it is read; there is no
    deadline, since it is the client's reading that takes time, which has a minimum rate (`connections.py`).

    Raises:
        UnknownJobError: The job is gone, perhaps since the line before.
    """
    for clip in await context.ask_store(context.jobs.store.clips, job_id):
        if not clip.has_outcome:
            continue
        # The outcome is a JSON object, which gets one more member.
        member = f'{{"name":{json.dumps(clip.name)},'
        with context.budget.share() as share:
            await _count(len(member) + clip.n_bytes, share)
            outcome = found_job(await context.ask_store(context.jobs.store.outcome, job_id, clip.index))
            line = f"{member}{outcome.content[1:]}\n".encode()
            del outcome
            for piece in cut_line(line):
                yield piece
            del line  # else it would be held, and not count, while the next one waits


async def _count(n_bytes: int, share: ByteShare) -> None:
    """Wait until a line has room in memory."""
    while True:
        try:
            count_line(n_bytes, share)
        except OverloadedError:
            await asyncio.sleep(_PAUSE_S)
        else:
            return


class ResultStream(StreamingResponse):
    """The results of a job, as far as there are any.

    Args:
        context: The parts of the service.
        job_id: The job.
    """

    def __init__(self, context: Context, job_id: str) -> None:
        super().__init__((), media_type=LINES)
        self._context, self._job_id = context, job_id

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the results.

        Raises:
            UnknownJobError, StoreUnavailableError: They can't be read. After the first piece was sent the
                connection is broken off instead.
            ClientDisconnect: The client has left before.
        """
        lift_deadline(scope)
        # Closed with the answer: else a line of a client that has left would count until it is collected.
        async with aclosing(result_lines(self._context, self._job_id)) as lines:
            # Before the answer begins, so that an error can still be one.
            first = await _unless_left(anext(lines, b""), receive)
            self.body_iterator = _with_first(first, lines)
            await super().__call__(scope, receive, send)


async def _unless_left(work: Awaitable[bytes], receive: Receive) -> bytes:
    """What comes of work that may wait for long; it ends when the client leaves."""

    async def left() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    tasks = asyncio.ensure_future(work), asyncio.ensure_future(left())
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if not tasks[0].done():
            raise ClientDisconnect
        return tasks[0].result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _with_first(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for piece in rest:
        yield piece
