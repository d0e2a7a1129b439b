"""Cancellation of work whose client has disconnected: a token that travels with the context of a request."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar


class WorkCancelled(Exception):  # noqa: N818  (a signal that ends unneeded work, not an error)
    """Raised in place of work that nobody needs any more.

    Attributes:
        stage: What the work was queued for: `worker`, `decode`, or the name of an encoder.
    """

    def __init__(self, stage: str) -> None:
        super().__init__(stage)
        self.stage = stage


class CancellationToken:
    """Tells the threads that work on a request whether its answer is still wanted. Thread-safe.

    Cancellation is cooperative: queued work is dropped before it runs, running work is not interrupted. A
    plain attribute is enough, since it changes once, from False to True, and may be read a moment too early.

    Attributes:
        is_cancelled: Whether the client has disconnected.
    """

    def __init__(self) -> None:
        self.is_cancelled = False

    def cancel(self) -> None:
        """Cancel all work that carries this token and has not begun."""
        self.is_cancelled = True

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


def raise_if_cancelled(stage: str) -> None:
    """End work whose client disconnected while it was queued.

    Args:
        stage: What the work was queued for, for metrics.

    Raises:
        WorkCancelled: The current token was cancelled.
    """
    token = _current.get()
    if token is not None and token.is_cancelled:
        raise WorkCancelled(stage)
