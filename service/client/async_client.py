"""`AsyncClient`: the methods of `Client`, to be awaited."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

import httpx2

from service.client import protocol
from service.client.answers import Answer
from service.client.connection import Connection, check_clips
from service.client.errors import ServiceError
from service.client.protocol import Call, Question
from service.client.tries import read_answer
from service.client.upload import ClipSource, Progress, Upload, opened, rewind
from service.client.values import (
    Health,
    Info,
    Job,
    JobResult,
    Label,
    LabelSet,
    LabelSetSummary,
    Model,
)

Value = TypeVar("Value")


class AsyncClient(Connection):
    """`Client` for asyncio: the same methods and arguments, to be awaited.

    A clip is read in the event loop, 64 KB at a time.
    """

    def _open(self, options: dict[str, Any]) -> None:
        self._http = httpx2.AsyncClient(**options)
        self._sleep: Callable[[float], Awaitable[None]] = asyncio.sleep

    async def classify(
        self,
        clip: ClipSource | None = None,
        *,
        progress: Progress | None = None,
        **question: Unpack[Question],
    ) -> Answer:
        """Rank candidate names for one clip; see `Client.classify`."""
        clips = [] if clip is None else [clip]
        check_clips(clips, question)
        call = protocol.classify(question)
        with opened(clips, progress) as uploads:
            return await self._send(call, uploads)

    async def info(self) -> Info:
        """The service's version, bundles and limits."""
        return await self._send(protocol.info())

    async def models(self) -> list[Model]:
        """All loaded bundles, the default first."""
        return await self._send(protocol.models())

    async def model(self, name: str) -> Model:
        """One loaded bundle."""
        return await self._send(protocol.model(name))

    async def health(self) -> Health:
        """Whether the service works now; asked once."""
        try:
            return await self._send(protocol.health())
        except ServiceError as error:
            return protocol.not_ready(error)

    async def label_sets(self) -> AsyncIterator[LabelSetSummary]:
        """All label sets in order of name, read page by page."""
        cursor: str | None = None
        while True:
            page, cursor = await self._send(protocol.label_set_page(cursor))
            for summary in page:
                yield summary
            if cursor is None:
                return

    async def label_set(self, name: str) -> LabelSet:
        """One label set with all its labels."""
        return await self._send(protocol.get_label_set(name))

    async def label_set_if_changed(self, name: str, etag: str) -> LabelSet | None:
        """One label set; None if it still has that etag."""
        return await self._send(protocol.get_label_set_if_changed(name, etag))

    async def put_label_set(
        self,
        name: str,
        labels: Sequence[str | Label],
        *,
        templates: Sequence[str] | None = None,
        guarantee: float | None = None,
        if_match: str | None = None,
        is_new: bool = False,
        warm: bool = False,
    ) -> LabelSetSummary:
        """Create a label set, or replace all of one; see `Client.put_label_set`."""
        call = protocol.put_label_set(name, labels, templates, guarantee, if_match, is_new=is_new, warm=warm)
        return await self._send(call)

    async def add_labels(
        self,
        name: str,
        labels: Sequence[str | Label],
        *,
        if_match: str | None = None,
        warm: bool = False,
    ) -> LabelSetSummary:
        """Add labels to a set; the next request already ranks them. See `put_label_set` for the arguments."""
        return await self._send(protocol.add_labels(name, labels, if_match, warm=warm))

    async def remove_label(self, name: str, label: str, *, if_match: str | None = None) -> LabelSetSummary:
        """Take one label out of a set."""
        return await self._send(protocol.remove_label(name, label, if_match))

    async def delete_label_set(self, name: str, *, if_match: str | None = None) -> None:
        """Delete a label set."""
        await self._send(protocol.delete_label_set(name, if_match))

    async def create_job(
        self,
        clips: Sequence[ClipSource] = (),
        *,
        webhook: str | None = None,
        webhook_secret: str | None = None,
        idempotency_key: str | None = None,
        progress: Progress | None = None,
        **question: Unpack[Question],
    ) -> Job:
        """Send clips that are worked on behind requests; see `Client.create_job`."""
        check_clips(clips, question)
        call = protocol.create_job(question, webhook, webhook_secret, idempotency_key)
        with opened(clips, progress) as uploads:
            return await self._send(call, uploads)

    async def jobs(self) -> AsyncIterator[Job]:
        """Your jobs, the latest first, read page by page; an admin key has all."""
        cursor: str | None = None
        while True:
            page, cursor = await self._send(protocol.job_page(cursor))
            for job in page:
                yield job
            if cursor is None:
                return

    async def job(self, job_id: str) -> Job:
        """One job with its clips."""
        return await self._send(protocol.get_job(job_id))

    async def wait_for_job(
        self, job_id: str, *, every_s: float = 2.0, progress: Callable[[Job], object] | None = None
    ) -> Job:
        """The job once it has ended; see `Client.wait_for_job`."""
        while True:
            job = await self._send(protocol.get_job(job_id))
            if progress is not None:
                progress(job)
            if job.has_ended:
                return job
            await self._sleep(every_s)

    async def job_results(self, job_id: str) -> list[JobResult]:
        """What has come of each clip that is done so far, in the order sent."""
        return await self._send(protocol.job_results(job_id))

    async def cancel_job(self, job_id: str) -> Job:
        """End the work on a job; its results so far stay until it expires."""
        return await self._send(protocol.cancel_job(job_id))

    async def delete_job(self, job_id: str) -> None:
        """End the work on a job, and delete it with its results."""
        await self._send(protocol.delete_job(job_id))

    async def aclose(self) -> None:
        """Close all connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def _send(self, call: Call[Value], uploads: Sequence[Upload] = ()) -> Value:
        tries = self._tries(call, uploads)
        while True:
            try:
                response = await self._http.request(**call.arguments(uploads))
            except httpx2.RequestError as error:
                wait_s = tries.wait_after_failure(error)
            else:
                again = tries.wait_after(response)
                if again is None:
                    return read_answer(call, response)
                wait_s = again
            rewind(uploads)
            await self._sleep(wait_s)
