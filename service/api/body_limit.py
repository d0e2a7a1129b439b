"""What a body may be: not larger than its address accepts, and on its way without long pauses."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.refuse import refuse, refuse_rest
from service.errors import AhseError, BodyTooLargeError, UploadStalledError


class _Refused(Exception):  # noqa: N818  (a signal between the two halves of BodyLimit, not an error)
    """Ends the reading of a body."""


class BodyLimit:
    """Refuses a body over the limit, at the first byte that is too many or before any is read.

    Args:
        app: what reads the bodies.
        limit_of: most bytes that an address accepts.
        pause_s: longest pause in a body; a client that stands still must not keep its place.
    """

    def __init__(self, app: ASGIApp, limit_of: Callable[[Scope], int], pause_s: float) -> None:
        self._app = app
        self._limit_of = limit_of
        self._pause_s = pause_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        body = _Body(receive, send, self._limit_of(scope), self._pause_s)
        if _declared_bytes(scope) > body.limit:
            await refuse(scope, receive, send, _too_large(body.limit))
            return
        with contextlib.suppress(_Refused):
            await self._app(scope, body.receive, body.send)
        if body.fault is not None and not body.is_answered:
            is_coming = not isinstance(body.fault, UploadStalledError)
            await refuse_rest(scope, body.rest, send, body.fault, is_coming=is_coming)


class _Body:
    """One request's body on its way in, and whether the answer has begun."""

    def __init__(self, receive: Receive, send: Send, limit: int, pause_s: float) -> None:
        self._receive, self._send = receive, send
        self.limit = limit
        self._pause_s = pause_s
        self._n_bytes = 0
        self._is_whole = False
        self.fault: AhseError | None = None
        self.is_answered = False

    async def receive(self) -> Message:
        """The next message; what comes behind the body, when the client leaves, may take any time."""
        try:
            async with asyncio.timeout(None if self._is_whole else self._pause_s):
                message = await self._receive()
        except TimeoutError:
            self.fault = UploadStalledError("Nothing came of the body for too long; send it again.")
            raise _Refused from None
        self._n_bytes += len(message.get("body", b""))
        self._is_whole = not message.get("more_body", False)
        if self._n_bytes > self.limit:
            self.fault = _too_large(self.limit)
            raise _Refused
        return message

    async def rest(self) -> Message:
        """What is still to be read of a body that was refused."""
        return {"type": "http.request"} if self._is_whole else await self._receive()

    async def send(self, message: Message) -> None:
        """Pass the answer on, unless the body was refused meanwhile."""
        if self.fault is None:
            self.is_answered = True
            await self._send(message)


def _too_large(limit: int) -> BodyTooLargeError:
    return BodyTooLargeError(f"The body is larger than the {limit} bytes that this address accepts.")


def _declared_bytes(scope: Scope) -> int:
    declared = Headers(scope=scope).get("content-length", "")
    return int(declared) if declared.isdecimal() else 0
