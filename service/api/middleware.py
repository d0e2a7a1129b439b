"""What surrounds every request: its id, its log line, its metrics, and the limit on its body."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from http import HTTPStatus

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.metrics import Metrics
from service.api.problems import problem, unforeseen
from service.api.request_id import HEADER, assign_request_id

_log = structlog.get_logger(__name__)

# A client that is still sending would see a reset instead of the answer; so a little more is read first.
_DRAIN_BYTES = 16 * 2**20
_DRAIN_S = 2.0
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
        # The route's pattern, not the address: a metric must not grow with what clients send.
        route = getattr(scope.get("route"), "path", "unknown")
        self._metrics.request(scope["method"], route, status, seconds)
        told = {"code": scope["state"]["code"]} if "code" in scope["state"] else {}
        _log.info(
            "request", method=scope["method"], route=route, status=status, ms=round(seconds * 1000, 1), **told
        )


class BodyTooLarge(Exception):  # noqa: N818  (a signal between the two halves of BodyLimit, not an error)
    """Ends the reading of a body that is over the limit."""


class BodyLimit:
    """Refuses a body over the limit with 413, at the first byte that is too many or before any is read."""

    def __init__(self, app: ASGIApp, limit_of: Callable[[Scope], int]) -> None:
        self._app = app
        self._limit_of = limit_of

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit, n_bytes, over, answered = self._limit_of(scope), 0, False, False

        async def counted() -> Message:
            nonlocal n_bytes, over
            message = await receive()
            n_bytes += len(message.get("body", b""))
            if n_bytes > limit:
                over = True
                raise BodyTooLarge
            return message

        async def unless_over(message: Message) -> None:
            nonlocal answered
            if not over:
                answered = True
                await send(message)

        if _declared_bytes(scope) > limit:
            over = True
        else:
            with contextlib.suppress(BodyTooLarge):
                await self._app(scope, counted, unless_over)
        if over and not answered:
            await _drain(receive)
            await _refuse(scope, receive, send, limit)


def _declared_bytes(scope: Scope) -> int:
    declared = Headers(scope=scope).get("content-length", "")
    return int(declared) if declared.isdecimal() else 0


async def _drain(receive: Receive) -> None:
    n_bytes = 0
    try:
        async with asyncio.timeout(_DRAIN_S):
            while n_bytes < _DRAIN_BYTES:
                message = await receive()
                n_bytes += len(message.get("body", b""))
                if message["type"] != "http.request" or not message.get("more_body", False):
                    return
    except TimeoutError:
        return


async def _refuse(scope: Scope, receive: Receive, send: Send, limit: int) -> None:
    response = problem(
        Request(scope, receive),
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        "body_too_large",
        f"The body is larger than the {limit} bytes that this address accepts.",
        headers={"Connection": "close"},
    )
    await response(scope, receive, send)
