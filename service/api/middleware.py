"""What surrounds every request: its id and log line, admission, and the limits of its body."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.metrics import Metrics
from service.api.problems import HEADER, assign_request_id, typed_problem, unforeseen
from service.errors import AhseError, BodyTooLargeError, OverloadedError, UploadStalledError

CLASSIFY = "/v1/classify"


# A client that is still sending would see a reset instead of the answer; so a little more is read first.
_DRAIN_BYTES = 64 * 2**20
_DRAIN_S = 2.0


async def refuse(scope: Scope, receive: Receive, send: Send, error: AhseError) -> None:
    """Answer a request of whose body nothing was read yet."""
    await refuse_rest(scope, receive, send, error, is_coming=not _waits_for_our_word(scope))


async def refuse_rest(
    scope: Scope, receive: Receive, send: Send, error: AhseError, *, is_coming: bool
) -> None:
    """Answer with the error's problem. The connection is closed where some of the body is left in it.

    Args:
        scope: of the request.
        receive: gives what is left of its body.
        send: takes the answer.
        error: what to answer with.
        is_coming: whether the client is sending that rest; else it is not waited for.
    """
    is_empty = is_coming and await _drain(receive)
    response = typed_problem(Request(scope), error, headers={} if is_empty else {"Connection": "close"})
    await response(scope, receive, send)


def _waits_for_our_word(scope: Scope) -> bool:
    """Whether the client sends its body only when it is told to, as curl does with large ones."""
    return Headers(scope=scope).get("expect", "").lower() == "100-continue"


async def _drain(receive: Receive) -> bool:
    """Read on for a little; whether that was all."""
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


class Admission:
    """Counts requests with clips from their first byte to the end of the answer.

    So what is bounded is not only the work that waits, but also the uploads on disk.

    Args:
        app: what answers the requests that are let in.
        most: requests inside at once.
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
    """Gives each request an id, answers what nobody foresaw, and leaves one log line and its metrics."""

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
        told = {"code": scope["state"]["code"]} if "code" in scope["state"] else {}
        _log.info(
            "request", method=scope["method"], route=route, status=status, ms=round(seconds * 1000, 1), **told
        )


def _route_of(scope: Scope) -> str:
    """The route's pattern, not the address: a metric must not grow with what clients send."""
    if "route" in scope:
        return str(getattr(scope["route"], "path", "unknown"))
    # Refused at the door, before there was a route.
    return CLASSIFY if scope["path"] == CLASSIFY else "unknown"
