"""What routes share: the parts of the service, and the end of work that nobody needs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, ParamSpec, TypeVar

from fastapi import Depends, Request
from starlette.requests import ClientDisconnect

from service.api.guard.byte_budget import ByteBudget, ByteShare
from service.api.guard.guarded_store import GuardedStore
from service.api.health_monitor import HealthMonitor
from service.api.intake.body import FormLimits
from service.api.intake.fetch import Fetcher
from service.api.intake.upload_folder import UploadFolder
from service.api.jobs.board import JobBoard
from service.api.prometheus import Metrics
from service.api.siblings import Siblings
from service.api.thread_pool import ThreadPool, cancelling
from service.api.warmer import Warmer
from service.cancellation import CancellationToken, WorkCancelled, current_token
from service.classifier import Classifier
from service.embed.embedder import Embedding
from service.errors import RequestTimeoutError, UrlRefusedError
from service.registry import Registry
from service.settings import Settings
from service.tracing import Tracing

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True)
class Context:
    """The parts of the service, built once by `create_app`."""

    settings: Settings
    registry: Registry
    store: GuardedStore
    classifier: Classifier
    metrics: Metrics
    tracing: Tracing
    uploads: UploadFolder
    budget: ByteBudget
    """bytes of requests in memory."""
    fetcher: Fetcher | None
    """fetches clips from URLs; None: not allowed."""
    health: HealthMonitor
    clip_workers: ThreadPool
    name_workers: ThreadPool
    """encode new names, so that clips with known names never wait behind them."""
    warmer: Warmer
    """embeds the labels of changed label sets, behind requests."""
    store_readers: ThreadPool
    store_writer: ThreadPool
    """one thread, since the store takes one change at a time: others would wait in it, holding a thread."""
    jobs: JobBoard
    job_writer: ThreadPool
    """one thread, for the same reason."""
    siblings: Siblings | None
    """the other workers behind the same port; None: there are none."""

    @property
    def form_limits(self) -> FormLimits:
        """What a request may hold besides clips."""
        settings = self.settings
        return FormLimits(max_fields=settings.max_labels + 100, max_field_bytes=settings.max_json_bytes)

    async def work_on_clip(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run work on a clip."""
        return await self._run(self.clip_workers, partial(function, *args, **kwargs))

    async def work_on_names(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run work on names."""
        return await self._run(self.name_workers, partial(function, *args, **kwargs))

    async def encode_some(self, names: Embedding) -> None:
        """Run one step of encoding names, or wait, without a thread, until another request has run one."""
        elsewhere = await self.work_on_names(names.step)
        if elsewhere is not None:
            waiting = asyncio.wrap_future(elsewhere)
            with self._ends_with_request(), cancelling("labels", waiting.cancel):
                await waiting

    async def ask_store(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a call that reads a store, or a form that is read before its clip is worked on."""
        return await self._run(self.store_readers, partial(function, *args, **kwargs))

    async def change_store(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a call that changes the label store."""
        return await self._run(self.store_writer, partial(function, *args, **kwargs))

    async def change_jobs(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a call that changes the job store."""
        return await self._run(self.job_writer, partial(function, *args, **kwargs))

    async def download(self, url: str, path: Path, share: ByteShare) -> None:
        """Fetch the clip at a URL.

        Raises:
            AhseError: It is not allowed, or failed; see Fetcher.fetch.
            RequestTimeoutError, ClientDisconnect: As with all work.
        """
        if self.fetcher is None:
            raise UrlRefusedError(
                "This service does not fetch clips from URLs; who runs it can allow that with "
                "AHSE_URL_INPUT=1. Send the clip itself: -F file=@clip.mp4"
            )
        task = asyncio.create_task(self.fetcher.fetch(url, path, share))
        with self._ends_with_request(), cancelling("fetch", task.cancel):
            await task

    async def _run(self, threads: ThreadPool, work: Callable[[], T]) -> T:
        with self._ends_with_request():
            return await threads.run(work)

    @contextmanager
    def _ends_with_request(self) -> Iterator[None]:
        """What the end of work means for the request.

        Raises:
            RequestTimeoutError: It took too long.
            ClientDisconnect: Nobody waits for the answer.
        """
        try:
            yield
        except WorkCancelled as cancelled:
            self.metrics.dropped(cancelled.stage)
            token = current_token()
            if token is not None and token.reason == "deadline":
                raise RequestTimeoutError(
                    f"The answer took longer than {self.settings.request_timeout_s:g} seconds. Ask for less, "
                    "or try again: names that were encoded by then are kept."
                ) from cancelled
            raise ClientDisconnect from cancelled


def _context(request: Request) -> Context:
    context: Context = request.app.state.context
    return context


ContextDep = Annotated[Context, Depends(_context)]


@asynccontextmanager
async def cancelled_by_disconnect(request: Request) -> AsyncIterator[None]:
    """Cancel the work of a request when its client disconnects inside the `with` block.

    Args:
        request: Its body has been read, so the next message can only be the disconnect.
    """
    token = current_token()
    watch = asyncio.create_task(_cancel_on_disconnect(request, token or CancellationToken()))
    try:
        yield
    finally:
        watch.cancel()


async def _cancel_on_disconnect(request: Request, token: CancellationToken) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
    token.cancel("disconnect")
