"""Turns on the processors, which runs of different encoders share."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager


class Turns:
    """Lets so many threads compute at once: bundles in turn, and of each bundle first come, first served.

    More runs than processors would share them by turns of milliseconds anyway, and each would find the caches
    filled with what the others have left. A run that has begun is not interrupted, so runs should be short.

    Args:
        n: How many.
    """

    def __init__(self, n: int) -> None:
        self._n_free = n
        # By bundle; that of the first one is next.
        self._waiting: dict[object, deque[threading.Event]] = {}
        self._lock = threading.Lock()

    @contextmanager
    def turn(self, bundle: object) -> Iterator[None]:
        """Wait for a turn; at its end it passes to the next bundle, to its thread that has waited longest.

        Args:
            bundle: What stands for the bundle: many long runs of one must not keep another waiting.
        """
        # Not a semaphore: a thread that gives one back and asks again at once would mostly be the next.
        called = threading.Event()
        with self._lock:
            if self._n_free:
                self._n_free -= 1
                called.set()
            else:
                self._waiting.setdefault(bundle, deque()).append(called)
        called.wait()
        try:
            yield
        finally:
            with self._lock:
                self._pass_on()

    def _pass_on(self) -> None:
        if not self._waiting:
            self._n_free += 1
            return
        bundle, threads = next(iter(self._waiting.items()))
        del self._waiting[bundle]
        threads.popleft().set()
        if threads:
            self._waiting[bundle] = threads  # behind all other bundles
