"""Middleware around every request: its id, log line and metrics; and how a request is refused."""

from __future__ import annotations

import asyncio
import time

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.problems import HEADER, assign_request_id, typed_problem, unforeseen
from service.api.prometheus import Metrics
from service.errors import AhseError

CLASSIFY, EMBEDDINGS = "/v1/classify", "/v1/embeddings"
JOBS = "/v1/jobs"


async def refuse(scope: Scope, receive: Receive, send: Send, error: AhseError) -> None:
    """Answer a request with an error while its body was not, or not all, read.

    The server reads the rest and throws it away (`connections.py`). It is not waited for where the client
    sends nothing before it is told to go on, as curl does with large files.
    """
    is_coming = Headers(scope=scope).get("expect", "").lower() != "100-continue"
    response = typed_problem(Request(scope), error, headers={} if is_coming else {"Connection": "close"})
    await response(scope, receive, send)


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
            except asyncio.CancelledError:  # how Ray Serve tells it
                status = _CLIENT_CLOSED_REQUEST
                raise
            except Exception as error:
                if status:  # the answer has begun: all that is left is to close the connection
                    raise
                await (await unforeseen(Request(scope), error))(scope, receive, tagged)
            finally:
                self._report(scope, status, time.perf_counter() - started)

    def _report(self, scope: Scope, status: int, seconds: float) -> None:
        route = route_of(scope)
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


def route_of(scope: Scope) -> str:
    """The route's pattern, not the address: a metric must not grow with what clients send."""
    if "route" in scope:
        return str(getattr(scope["route"], "path", "unknown"))
    # Refused before a route was chosen.
    return str(scope["path"]) if scope["path"] in (CLASSIFY, EMBEDDINGS) else "unknown"
