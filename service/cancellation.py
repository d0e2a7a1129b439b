"""Cancellation of work that nobody waits for any more: a token that travels with the context of a request."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Literal

Reason = Literal["disconnect", "deadline", "cancelled"]
"""Why nobody needs the work: its client has disconnected, it has taken too long, or its job was cancelled."""


class WorkCancelled(Exception):  # noqa: N818  (a signal that ends unneeded work, not an error)
    """Raised in place of work that nobody needs any more.

    Attributes:
        stage: What the work was queued for: `worker`, `labels`, `decode`, or the name of an encoder.
    """

    def __init__(self, stage: str) -> None:
        super().__init__(stage)
        self.stage = stage


class CancellationToken:
    """Tells the threads that work on a request whether its answer is still wanted. Thread-safe.

    Queued work is dropped, and work that can be stopped registers how (`on_cancel`). A plain attribute is
    enough for the reason, since it changes once, and may be read a moment too early.

    Attributes:
        reason: Why the request was cancelled; None while its answer is wanted.
    """

    def __init__(self) -> None:
        self.reason: Reason | None = None
        self._lock = threading.Lock()
        self._stops: list[Callable[[], object]] = []

    @property
    def is_cancelled(self) -> bool:
        """Whether nobody needs the answer."""
        return self.reason is not None

    def cancel(self, reason: Reason = "disconnect") -> None:
        """Cancel all work that carries this token. The first reason counts."""
        with self._lock:
            if self.reason is not None:
                return
            self.reason = reason
            for stop in self._stops:
                stop()

    @contextmanager
    def on_cancel(self, stop: Callable[[], object]) -> Iterator[None]:
        """Have `stop` called when the token is cancelled in the `with` block; at once if it already was.

        It is called in the thread that cancels, which waits for it, and never after the block has ended.
        """
        with self._lock:
            self._stops.append(stop)
            if self.is_cancelled:
                stop()
        try:
            yield
        finally:
            with self._lock:
                self._stops.remove(stop)

    @contextmanager
    def active(self) -> Iterator[None]:
        """Attach the token to everything that runs inside the `with` block or in copies of its context."""
        previous = _current.set(self)
        try:
            yield
        finally:
            _current.reset(previous)


# A context variable, not a thread-local one: a request passes through several threads, each of which runs in
# a copy of the request's context.
_current: ContextVar[CancellationToken | None] = ContextVar("cancellation_token", default=None)


def current_token() -> CancellationToken | None:
    """The token of the current context; None where work cannot be cancelled, as on the command line."""
    return _current.get()


def stopping(stop: Callable[[], object]) -> AbstractContextManager[None]:
    """`on_cancel` of the current token; nothing where work cannot be cancelled."""
    token = _current.get()
    return nullcontext() if token is None else token.on_cancel(stop)


def raise_if_cancelled(stage: str) -> None:
    """End work that was cancelled while it was queued.

    Args:
        stage: What the work was queued for, for metrics.

    Raises:
        WorkCancelled: The current token was cancelled.
    """
    token = _current.get()
    if token is not None and token.is_cancelled:
        raise WorkCancelled(stage)
