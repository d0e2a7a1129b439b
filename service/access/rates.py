"""Rates and daily bytes, counted by the library `limits` in memory that is bounded."""

from __future__ import annotations

import functools
import ipaddress
import math
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Any, ClassVar

from limits import RateLimitItem, RateLimitItemPerDay, parse_many
from limits.storage import MovingWindowSupport, Storage
from limits.strategies import FixedWindowRateLimiter, MovingWindowRateLimiter, RateLimiter

from service.errors import QuotaExceededError, RateLimitedError

_MAX_AMOUNT = 100_000
_MAX_WINDOWS = 10_000
_MAX_REQUESTS = 1_000_000
_EXAMPLE = "must be a number of requests and a time, such as 600/minute"


@functools.lru_cache(maxsize=1000)
def parse_rate(text: str) -> RateLimitItem:
    """Read a rate such as `600/minute` or `10 per 5 seconds`.

    Raises:
        ValueError: It is none; the text of the error is ours, and goes on behind the name of the setting.
    """
    try:
        (rate,) = parse_many(text)
    except ValueError:
        raise ValueError(_EXAMPLE) from None
    if not 1 <= rate.amount <= _MAX_AMOUNT:
        raise ValueError(f"{_EXAMPLE}; the number may be from 1 to {_MAX_AMOUNT}")
    return rate


class BoundedMemory(Storage, MovingWindowSupport):
    """Counters of `limits` in memory, for use from one thread.

    The library's own memory has no bound, holds an object for each request, and starts a thread to clean up,
    which looks at all counters. This one holds a number for each request, and forgets the counters that were
    used longest ago when there are too many.

    Args:
        clock: Seconds, growing evenly.
        max_windows: Maximum number of counters.
        max_requests: Maximum number of requests that are remembered, in all of them together.
    """

    STORAGE_SCHEME: ClassVar[list[str] | None] = None  # type: ignore[misc]  # not found by an address

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        max_windows: int = _MAX_WINDOWS,
        max_requests: int = _MAX_REQUESTS,
    ) -> None:
        super().__init__()
        self.clock = clock
        self._max_windows, self._max_requests = max_windows, max_requests
        self._n_requests = 0
        # Times of requests, the counter that was used last at the end.
        self._windows: OrderedDict[str, deque[float]] = OrderedDict()
        # Sum, and when it starts again from nothing.
        self._sums: dict[str, tuple[int, float]] = {}

    def acquire_entry(self, key: str, limit: int, expiry: int, amount: int = 1) -> bool:
        """Count requests in a moving window, unless they would be too many."""
        window = self._window(key, expiry)
        if len(window) + amount > limit:
            return False
        window.extend([self.clock()] * amount)
        self._n_requests += amount
        self._windows[key] = window
        self._windows.move_to_end(key)
        self._forget()
        return True

    def get_moving_window(self, key: str, limit: int, expiry: int) -> tuple[float, int]:
        """When the oldest request in the window came, and how many there are."""
        del limit
        window = self._window(key, expiry)
        return (window[0] if window else self.clock()), len(window)

    def _window(self, key: str, expiry: int) -> deque[float]:
        window = self._windows.get(key, deque())
        begin = self.clock() - expiry
        while window and window[0] <= begin:
            window.popleft()
            self._n_requests -= 1
        return window

    def _forget(self) -> None:
        while len(self._windows) > 1 and (
            len(self._windows) > self._max_windows or self._n_requests > self._max_requests
        ):
            _, window = self._windows.popitem(last=False)
            self._n_requests -= len(window)

    def incr(self, key: str, expiry: float, amount: int = 1) -> int:
        """Add to a sum, which starts again from nothing when its time is over."""
        begins_anew = self.clock() + expiry
        total = self.get(key) + amount
        self._sums[key] = (total, self._sums[key][1] if key in self._sums else begins_anew)
        return total

    def get(self, key: str) -> int:
        """A sum."""
        if key in self._sums and self._sums[key][1] <= self.clock():
            del self._sums[key]
        return self._sums.get(key, (0, 0.0))[0]

    def get_expiry(self, key: str) -> float:
        """When a sum starts again from nothing."""
        return self._sums.get(key, (0, self.clock()))[1]

    def clear(self, key: str) -> None:
        """Forget one counter."""
        self._n_requests -= len(self._windows.pop(key, ()))
        self._sums.pop(key, None)

    def reset(self) -> int | None:
        """Forget all counters."""
        n_counters = len(self._windows) + len(self._sums)
        self._windows.clear()
        self._sums.clear()
        self._n_requests = 0
        return n_counters

    def check(self) -> bool:
        """Memory always answers."""
        return True

    @property
    def base_exceptions(self) -> Any:
        """Memory has no errors of its own."""
        return ()


class Rates:
    """Counts requests and bytes of each client. Call it from the event loop's thread only.

    Args:
        default: Rate of clients whose key has none of its own, such as `600/minute`; empty: none.
        clock: Seconds, growing evenly.
    """

    def __init__(self, default: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._default = parse_rate(default) if default else None
        self._clock = clock
        # Apart, so that no number of addresses makes the service forget what keys did.
        self._by_address = MovingWindowRateLimiter(BoundedMemory(clock))
        self._by_key = MovingWindowRateLimiter(BoundedMemory(clock))
        self._bytes = FixedWindowRateLimiter(BoundedMemory(clock))

    def count_address(self, address: str) -> None:
        """Count a request of a client without a key.

        Raises:
            RateLimitedError: It is one too many.
        """
        if self._default is not None:
            self._count(self._by_address, self._default, _network_of(address))

    def count_key(self, key_id: str, rate: str | None) -> None:
        """Count a request of a key.

        Raises:
            RateLimitedError: It is one too many.
        """
        limit = parse_rate(rate) if rate else self._default
        if limit is not None:
            self._count(self._by_key, limit, key_id)

    def _count(self, limiter: RateLimiter, limit: RateLimitItem, client: str) -> None:
        if not limiter.hit(limit, client):
            retry_s = self._seconds_to(limiter.get_window_stats(limit, client).reset_time)
            raise RateLimitedError(f"More than {limit.amount} requests in {_time(limit)}.", retry_s)

    def check_bytes(self, key_id: str, quota: int, n_bytes: int) -> None:
        """Check that a body of so many bytes would still be within the quota of the day.

        Raises:
            RateLimitedError: It would not.
            QuotaExceededError: It would be on no day.
        """
        if n_bytes > quota:
            raise QuotaExceededError(f"This key may send {quota} bytes a day, and the body has {n_bytes}.")
        limit = RateLimitItemPerDay(quota)
        if not self._bytes.test(limit, key_id, cost=n_bytes):
            raise self._too_many_bytes(limit, key_id, n_bytes)

    def count_bytes(self, key_id: str, quota: int, n_bytes: int) -> None:
        """Count bytes that were received.

        Raises:
            RateLimitedError: They are more than the quota of the day.
        """
        limit = RateLimitItemPerDay(quota)
        if not self._bytes.hit(limit, key_id, cost=n_bytes):
            raise self._too_many_bytes(limit, key_id, n_bytes)

    def _too_many_bytes(self, limit: RateLimitItem, key_id: str, n_bytes: int) -> RateLimitedError:
        reset_time, left = self._bytes.get_window_stats(limit, key_id)
        return RateLimitedError(
            f"This key may send {limit.amount} bytes a day; {left} are left, and {n_bytes} were to come.",
            self._seconds_to(reset_time),
        )

    def _seconds_to(self, moment: float) -> int:
        return max(1, math.ceil(moment - self._clock()))


def _time(limit: RateLimitItem) -> str:
    name, n = limit.GRANULARITY.name, limit.multiples
    return f"one {name}" if n == 1 else f"{n} {name}s"


def _network_of(address: str) -> str:
    """What one client holds: an IPv4 address, or all the addresses of an IPv6 network of 64 bits."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv4Address):
        return address
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.ip_network((int(parsed), 64), strict=False))
