"""What routes share: the parts of the service, its thread pools, cancellation of abandoned requests."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Annotated, ParamSpec, TypeVar

from fastapi import Depends, Request
from starlette.requests import ClientDisconnect

from service.api.fetch import Fetcher
from service.api.prometheus import Metrics
from service.api.upload_folder import UploadFolder
from service.cancellation import CancellationToken, WorkCancelled, raise_if_cancelled
from service.classifier import Classifier
from service.labels.store import LabelStore
from service.registry import Registry
from service.settings import Settings

P = ParamSpec("P")
T = TypeVar("T")


class ClipWorkers:
    """A thread pool for clips. `Admission` bounds how much work may wait for it.

    Args:
        n_threads: Clips that are worked on at once.
    """

    def __init__(self, n_threads: int) -> None:
        self._threads = ThreadPoolExecutor(n_threads, thread_name_prefix="clip")
        self.n_taken = 0
        """clips that are worked on or wait."""

    async def run(self, work: Callable[[], T]) -> T:
        """Run work in the pool. Call it from the event loop's thread only.

        Raises:
            WorkCancelled: The client disconnected while the work was queued.
        """
        self.n_taken += 1
        try:
            return await run_beside(self._threads, lambda: _unless_cancelled(work))
        finally:
            self.n_taken -= 1

    def shutdown(self) -> None:
        """Finish running work and cancel waiting work."""
        self._threads.shutdown(cancel_futures=True)


async def run_beside(threads: ThreadPoolExecutor, work: Callable[[], T]) -> T:
    """Run work in a thread pool, in the context of the request: its log lines carry the request id."""
    context = contextvars.copy_context()
    return await asyncio.get_running_loop().run_in_executor(threads, lambda: context.run(work))


def _unless_cancelled(work: Callable[[], T]) -> T:
    raise_if_cancelled("worker")
    return work()


@dataclass(frozen=True)
class Context:
    """The parts of the service, built once by `create_app`."""

    settings: Settings
    registry: Registry
    store: LabelStore
    classifier: Classifier
    metrics: Metrics
    uploads: UploadFolder
    fetcher: Fetcher | None
    """fetches clips from URLs; None: not allowed."""
    clip_workers: ClipWorkers
    """pool for clips."""
    store_workers: ThreadPoolExecutor
    """pool for the label store: health and label sets never wait behind clips."""

    async def work_on_clip(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run work on a clip in the pool for clips; see ClipWorkers.run for what it may raise."""
        return await self.clip_workers.run(partial(function, *args, **kwargs))

    async def ask_store(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a call of the label store in the pool for the store."""
        return await run_beside(self.store_workers, partial(function, *args, **kwargs))


def _context(request: Request) -> Context:
    context: Context = request.app.state.context
    return context


ContextDep = Annotated[Context, Depends(_context)]


@asynccontextmanager
async def work_for_client(request: Request, metrics: Metrics) -> AsyncIterator[None]:
    """Cancel the work that is started inside when the client of this request disconnects.

    Args:
        request: Its body has been read, so the next message can only be the disconnect.
        metrics: Counts cancelled requests.

    Raises:
        ClientDisconnect: The work was cancelled.
    """
    token = CancellationToken()
    watch = asyncio.create_task(_cancel_on_disconnect(request, token))
    try:
        with token.active():
            yield
    except WorkCancelled as cancelled:
        metrics.dropped(cancelled.stage)
        raise ClientDisconnect from cancelled
    finally:
        # Also when this task itself is cancelled, as in a shutdown that takes too long.
        token.cancel()
        watch.cancel()


async def _cancel_on_disconnect(request: Request, token: CancellationToken) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
    token.cancel()
