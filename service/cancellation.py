"""The client that a request is worked on for: work for one that has gone is dropped before it runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar


class ClientGone(Exception):  # noqa: N818  (a signal that ends work nobody waits for, not an error)
    """Raised in place of the work.

    Attributes:
        waited_for: What the work was waiting for: `worker`, `decode`, or an encoder.
    """

    def __init__(self, waited_for: str) -> None:
        super().__init__(waited_for)
        self.waited_for = waited_for


class Client:
    """Whoever waits for an answer, until they leave. Any thread may ask or tell."""

    def __init__(self) -> None:
        self.is_gone = False

    def leave(self) -> None:
        """Nobody waits any longer."""
        self.is_gone = True

    @contextmanager
    def served(self) -> Iterator[None]:
        """What runs inside, and in copies of its context, is work for this client."""
        token = _served.set(self)
        try:
            yield
        finally:
            _served.reset(token)


_served: ContextVar[Client | None] = ContextVar("client", default=None)


def served_client() -> Client | None:
    """The client that is being worked for; None where there is none, as on the command line."""
    return _served.get()


def drop_if_gone(waited_for: str) -> None:
    """End work that waited, if its client left in the meantime.

    Raises:
        ClientGone: it did.
    """
    client = _served.get()
    if client is not None and client.is_gone:
        raise ClientGone(waited_for)
