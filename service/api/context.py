"""What routes share: the parts of the service, its thread pools, and the end of work that nobody needs."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, ParamSpec, TypeVar

from fastapi import Depends, Request
from starlette.requests import ClientDisconnect

from service.api.guard.byte_budget import ByteBudget, ByteShare
from service.api.health_monitor import HealthMonitor
from service.api.intake.fetch import Fetcher
from service.api.intake.upload_folder import UploadFolder
from service.api.jobs.board import JobBoard
from service.api.prometheus import Metrics
from service.api.siblings import Siblings
from service.api.warmer import Warmer
from service.cancellation import (
    CancellationToken,
    WorkCancelled,
    current_token,
    raise_if_cancelled,
    stopping,
)
from service.classifier import Classifier
from service.errors import RequestTimeoutError, UrlRefusedError
from service.labels.store import LabelStore
from service.registry import Registry
from service.settings import Settings
from service.tracing import Tracing

P = ParamSpec("P")
T = TypeVar("T")


class Workers:
    """A thread pool for one kind of work, in which requests wait in the order they came.

    Args:
        name: Of its threads.
        n_threads: Work that runs at once.
    """

    def __init__(self, name: str, n_threads: int) -> None:
        self._threads = ThreadPoolExecutor(n_threads, thread_name_prefix=name)
        self._ended = asyncio.Event()
        self.n_taken = 0
        """work that runs or waits."""

    async def run(self, work: Callable[[], T]) -> T:
        """Run work in the pool, in the context of the request: its log lines carry the request id.

        Call it from the event loop's thread only.

        Raises:
            WorkCancelled: The request was cancelled before, or while the work was queued.
        """
        raise_if_cancelled("worker")
        pending = self._threads.submit(contextvars.copy_context().run, work)
        self.n_taken += 1
        try:
            with cancelling("worker", pending.cancel):  # work that has begun can't be cancelled so
                return await asyncio.wrap_future(pending)
        finally:
            self.n_taken -= 1
            self._ended.set()

    async def fewer_than(self, n: int, patience_s: float) -> None:
        """Wait until less work than that runs or waits, or time is up."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience_s):
                while self.n_taken >= n:
                    self._ended.clear()
                    await self._ended.wait()

    def call(self, work: Callable[[], T]) -> T:
        """Run work in the pool for a thread that is not the event loop's."""
        return self._threads.submit(work).result()

    def shutdown(self) -> None:
        """Finish running work and cancel waiting work."""
        self._threads.shutdown(cancel_futures=True)


@dataclass(frozen=True)
class Context:
    """The parts of the service, built once by `create_app`."""

    settings: Settings
    registry: Registry
    store: LabelStore
    classifier: Classifier
    metrics: Metrics
    tracing: Tracing
    uploads: UploadFolder
    budget: ByteBudget
    """bytes of requests in memory."""
    fetcher: Fetcher | None
    """fetches clips from URLs; None: not allowed."""
    health: HealthMonitor
    clip_workers: Workers
    name_workers: Workers
    """encode new names, so that clips with known names never wait behind them."""
    warmer: Warmer
    """embeds the labels of changed label sets, behind requests."""
    store_readers: Workers
    store_writer: Workers
    """one thread, since the store takes one change at a time: others would wait in it, holding a thread."""
    jobs: JobBoard
    job_writer: Workers
    """one thread, for the same reason."""
    siblings: Siblings | None
    """the other workers behind the same port; None: there are none."""

    async def work_on_clip(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run work on a clip."""
        return await self._run(self.clip_workers, partial(function, *args, **kwargs))

    async def work_on_names(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run one step of encoding names."""
        return await self._run(self.name_workers, partial(function, *args, **kwargs))

    async def ask_store(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a call that reads the label store."""
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

    async def _run(self, workers: Workers, work: Callable[[], T]) -> T:
        with self._ends_with_request():
            return await workers.run(work)

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


@contextmanager
def cancelling(stage: str, cancel: Callable[[], object]) -> Iterator[None]:
    """Have something that is awaited inside the `with` block cancelled together with the request.

    Raises:
        WorkCancelled: It was cancelled for that reason, and not because the whole task was, as in a shutdown.
    """
    try:
        with stopping(cancel):
            yield
    except asyncio.CancelledError:
        raise_if_cancelled(stage)
        raise


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
