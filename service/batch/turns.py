"""Turns on the processors, which runs of different encoders share."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager


class Turns:
    """Lets so many threads compute at once, first come, first served.

    More runs than processors would share them by turns of milliseconds anyway, and each would find the caches
    filled with what the others have left. A run that has begun is not interrupted, so runs should be short.

    Args:
        n: How many.
    """

    def __init__(self, n: int) -> None:
        self._n_free = n
        self._waiting = deque[threading.Event]()
        self._lock = threading.Lock()

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Wait for a turn; at its end it passes to the thread that has waited longest."""
        # Not a semaphore: a thread that gives one back and asks again at once would mostly be the next.
        called = threading.Event()
        with self._lock:
            if self._n_free:
                self._n_free -= 1
                called.set()
            else:
                self._waiting.append(called)
        called.wait()
        try:
            yield
        finally:
            with self._lock:
                if self._waiting:
                    self._waiting.popleft().set()
                else:
                    self._n_free += 1
