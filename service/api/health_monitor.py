"""Whether the parts of the service work: tried on a schedule in threads of their own, and remembered."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping

import structlog

from service.errors import AhseError

_log = structlog.get_logger(__name__)

Check = Callable[[], object]
"""Tries one part for real; raises when it does not work."""


class HealthMonitor:
    """Tries every part again and again; asking for the state costs nothing and waits for nothing.

    Each check has a thread of its own, so that one that hangs is found, and named, without the others.

    Args:
        checks: What to try, by the name of the part.
        interval_s: Time between two tries of a part.
        timeout_s: Longest time that a try may take, before its part counts as failed.
    """

    def __init__(self, checks: Mapping[str, Check], interval_s: float, timeout_s: float) -> None:
        self._interval_s = interval_s
        self._timeout_s = timeout_s
        self._checks = checks
        self._changed = threading.Condition()
        # Guarded by the condition: what is wrong with each part that was tried, or None; when its try began.
        self._faults: dict[str, str | None] = {}
        self._began: dict[str, float] = {}
        self._is_closed = False
        self._threads = [
            threading.Thread(target=self._repeat, args=(name,), name=f"health {name}", daemon=True)
            for name in checks
        ]

    def start(self) -> None:
        """Begin with the first tries."""
        for thread in self._threads:
            thread.start()

    def faults(self) -> dict[str, str]:
        """What is wrong, by the name of the part; empty when all parts work."""
        now = time.monotonic()
        with self._changed:
            found = {name: self._fault(name, now) for name in self._checks}
        return {name: fault for name, fault in found.items() if fault is not None}

    def wait_for_first(self, timeout_s: float) -> bool:
        """Wait until every part has been tried; whether that is so."""
        with self._changed:
            return self._changed.wait_for(lambda: len(self._faults) == len(self._checks), timeout_s)

    def close(self) -> None:
        """End the schedule. Tries that are under way end by themselves."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    def _fault(self, name: str, now: float) -> str | None:
        if name in self._began and now - self._began[name] > self._timeout_s:
            return f"has not answered for {self._timeout_s:g} seconds"
        return self._faults.get(name, "was not tried yet: the service is starting")

    def _repeat(self, name: str) -> None:
        while True:
            with self._changed:
                self._began[name] = time.monotonic()
            fault = self._try(name)
            with self._changed:
                del self._began[name]
                if self._is_closed:
                    return
                self._faults[name] = fault
                self._changed.notify_all()
                if self._changed.wait_for(lambda: self._is_closed, self._interval_s):
                    return

    def _try(self, name: str) -> str | None:
        """What is wrong with a part now; logged when that is new."""
        fault: str | None = None
        cause: Exception | None = None
        try:
            self._checks[name]()
        except AhseError as error:
            fault, cause = error.message, error
        except Exception as error:  # noqa: BLE001  (whatever it is, the part does not work)
            fault, cause = "does not work", error
        if self._is_closed:
            return fault
        if fault != self._faults.get(name):
            _log.warning("health", part=name, works=fault is None, exc_info=cause)
        return fault
