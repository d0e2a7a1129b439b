"""Threads that work on clips; what is more than they can do waits for its turn."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from service.client import drop_if_gone

T = TypeVar("T")


class ClipWorkers:
    """A few threads for work that takes long. The door bounds how much may wait for them (api/admission).

    Args:
        n_threads: pieces of work under way at once.
    """

    def __init__(self, n_threads: int) -> None:
        self._threads = ThreadPoolExecutor(n_threads, thread_name_prefix="clip")
        self.n_taken = 0
        """pieces of work under way or waiting."""

    async def run(self, work: Callable[[], T]) -> T:
        """Do the work in a thread, in its turn; for the event loop's thread only.

        Raises:
            ClientGone: the client left while the work waited.
        """
        self.n_taken += 1
        try:
            return await run_beside(self._threads, lambda: _unless_gone(work))
        finally:
            self.n_taken -= 1

    def shutdown(self) -> None:
        """Finish what is under way; what waits for a thread is not begun."""
        self._threads.shutdown(cancel_futures=True)


async def run_beside(threads: ThreadPoolExecutor, work: Callable[[], T]) -> T:
    """Do the work beside the event loop, in the request's context: log lines carry its id."""
    context = contextvars.copy_context()
    return await asyncio.get_running_loop().run_in_executor(threads, lambda: context.run(work))


def _unless_gone(work: Callable[[], T]) -> T:
    drop_if_gone("worker")
    return work()
