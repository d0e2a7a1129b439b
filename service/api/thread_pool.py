"""A thread pool for requests: work waits in the order it came, and is dropped with its request."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from service.cancellation import raise_if_cancelled, stopping

T = TypeVar("T")


class ThreadPool:
    """Threads for one kind of work, in which requests wait in the order they came.

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

    def close(self) -> None:
        """Finish running work and cancel waiting work."""
        self._threads.shutdown(cancel_futures=True)


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
