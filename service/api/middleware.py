"""Middleware around every request: id and log line, admission, limits of the body, refusal."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.problems import HEADER, assign_request_id, typed_problem, unforeseen
from service.api.prometheus import Metrics
from service.errors import AhseError, BodyTooLargeError, OverloadedError, UploadStalledError

CLASSIFY = "/v1/classify"


# A client that is still sending would see a reset instead of the answer; so a little more is read first.
_DRAIN_BYTES = 64 * 2**20
_DRAIN_S = 2.0


async def refuse(scope: Scope, receive: Receive, send: Send, error: AhseError) -> None:
    """Answer a request whose body was not read yet with an error."""
    await refuse_rest(scope, receive, send, error, is_coming=not _expects_continue(scope))


async def refuse_rest(
    scope: Scope, receive: Receive, send: Send, error: AhseError, *, is_coming: bool
) -> None:
    """Answer with an error while part of the body may be unread; then the connection is closed.

    Args:
        scope: Scope of the request.
        receive: Returns the rest of its body.
        send: Sends the answer.
        error: The error to answer with.
        is_coming: Whether the client is sending the rest; otherwise it is not read.
    """
    is_empty = is_coming and await _drain(receive)
    response = typed_problem(Request(scope), error, headers={} if is_empty else {"Connection": "close"})
    await response(scope, receive, send)


def _expects_continue(scope: Scope) -> bool:
    """Whether the client waits for `100 Continue` before it sends its body, as curl does with large ones."""
    return Headers(scope=scope).get("expect", "").lower() == "100-continue"


async def _drain(receive: Receive) -> bool:
    """Read the rest up to a limit; returns whether that was all of it."""
    n_bytes = 0
    try:
        async with asyncio.timeout(_DRAIN_S):
            while n_bytes < _DRAIN_BYTES:
                message = await receive()
                n_bytes += len(message.get("body", b""))
                if message["type"] != "http.request" or not message.get("more_body", False):
                    return True
    except TimeoutError:
        pass
    return False


class _Refused(Exception):  # noqa: N818  (a signal between the two halves of BodyLimit, not an error)
    """Ends the reading of a body."""


class BodyLimit:
    """Refuses a body over the limit: by its declared length, or at the first byte beyond the limit.

    Args:
        app: The application behind.
        limit_of: Maximum bytes of a body, by the scope of the request.
        pause_s: Longest pause in a body, after which a stalled client is refused.
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
    """The body of one request while it arrives, and whether the answer has started."""

    def __init__(self, receive: Receive, send: Send, limit: int, pause_s: float) -> None:
        self._receive, self._send = receive, send
        self.limit = limit
        self._pause_s = pause_s
        self._n_bytes = 0
        self._is_whole = False
        self.fault: AhseError | None = None
        self.is_answered = False

    async def receive(self) -> Message:
        """The next message. Behind the body only the disconnect follows, which may take any time."""
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
        """The rest of a body that was refused."""
        return {"type": "http.request"} if self._is_whole else await self._receive()

    async def send(self, message: Message) -> None:
        """Pass the answer on, unless the body was refused in the meantime."""
        if self.fault is None:
            self.is_answered = True
            await self._send(message)


def _too_large(limit: int) -> BodyTooLargeError:
    return BodyTooLargeError(f"The body is larger than the {limit} bytes that this address accepts.")


def _declared_bytes(scope: Scope) -> int:
    declared = Headers(scope=scope).get("content-length", "")
    return int(declared) if declared.isdecimal() else 0


class Admission:
    """Bounds the requests with clips, counted from their first byte to the end of the answer.

    This bounds the uploads on disk as well as the waiting work. One more is refused before its body is read.

    Args:
        app: The application behind.
        most: Maximum number of such requests at once.
    """

    def __init__(self, app: ASGIApp, most: int) -> None:
        self._app = app
        self._most = most
        self._n_inside = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http" or scope["path"] != CLASSIFY:
            await self._app(scope, receive, send)
        elif self._n_inside >= self._most:
            error = OverloadedError("The service has as many clips as it can take; try again later.")
            await refuse(scope, receive, send, error)
        else:
            self._n_inside += 1
            try:
                await self._app(scope, receive, send)
            finally:
                self._n_inside -= 1


_log = structlog.get_logger(__name__)

# Nobody receives it; the name that access logs give to a client that has gone.
_CLIENT_CLOSED_REQUEST = 499


class RequestContext:
    """Gives each request an id, answers unexpected errors, and writes one log line and its metrics."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = assign_request_id(scope)
        started, status = time.perf_counter(), 0

        async def tagged(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)[HEADER] = request_id
            await send(message)

        with structlog.contextvars.bound_contextvars(request_id=request_id):
            try:
                await self._app(scope, receive, tagged)
            except ClientDisconnect:
                status = _CLIENT_CLOSED_REQUEST
            except Exception as error:
                if status:  # the answer has begun: all that is left is to close the connection
                    raise
                await (await unforeseen(Request(scope), error))(scope, receive, tagged)
            finally:
                self._report(scope, status, time.perf_counter() - started)

    def _report(self, scope: Scope, status: int, seconds: float) -> None:
        route = _route_of(scope)
        self._metrics.request(scope["method"], route, status, seconds)
        known = {name: scope["state"][name] for name in ("code", "key") if name in scope["state"]}
        _log.info(
            "request",
            method=scope["method"],
            route=route,
            status=status,
            ms=round(seconds * 1000, 1),
            **known,
        )


def _route_of(scope: Scope) -> str:
    """The route's pattern, not the address: a metric must not grow with what clients send."""
    if "route" in scope:
        return str(getattr(scope["route"], "path", "unknown"))
    # Refused before a route was chosen.
    return CLASSIFY if scope["path"] == CLASSIFY else "unknown"
