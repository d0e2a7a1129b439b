"""Middleware around every request: its id, log line and metrics; how it is refused; what its head says."""

from __future__ import annotations

import asyncio
import time

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.headers import REQUEST_ID_HEADER, assign_request_id
from service.api.problems import typed_problem, unforeseen
from service.api.prometheus import Metrics
from service.errors import AhseError, NotReadyError

CLASSIFY, EMBEDDINGS, JOBS = "/v1/classify", "/v1/embeddings", "/v1/jobs"


async def refuse(scope: Scope, receive: Receive, send: Send, error: AhseError) -> None:
    """Answer a request with an error while its body was not, or not all, read.

    The server reads the rest and throws it away (`connections.py`). It is not waited for where the client
    sends nothing before it is told to go on, as curl does with large files.
    """
    is_coming = Headers(scope=scope).get("expect", "").lower() != "100-continue"
    response = typed_problem(Request(scope), error, headers={} if is_coming else {"Connection": "close"})
    await response(scope, receive, send)


_log = structlog.get_logger(__name__)

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
# How OpenTelemetry calls all the rest.
_OTHER_METHOD = "_OTHER"
# Nobody receives it; the name that access logs give to a client that has gone.
_CLIENT_CLOSED_REQUEST = 499
_ENDING = "The service ends, and this request was not done in time; send it again, to whoever runs then."


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
                MutableHeaders(scope=message)[REQUEST_ID_HEADER] = request_id
            await send(message)

        with structlog.contextvars.bound_contextvars(request_id=request_id):
            try:
                await self._app(scope, receive, tagged)
            except ClientDisconnect:
                status = _CLIENT_CLOSED_REQUEST
            except asyncio.CancelledError:
                if status or not scope["app"].state.context.jobs.is_closing:  # how Ray Serve tells it
                    status = _CLIENT_CLOSED_REQUEST
                    raise
                # The server gives up what it has not answered in the time of a shutdown.
                await refuse(scope, receive, tagged, NotReadyError(_ENDING))
            except Exception as error:
                if status:  # the answer has begun: all that is left is to close the connection
                    raise
                await (await unforeseen(Request(scope), error))(scope, receive, tagged)
            finally:
                self._report(scope, status, time.perf_counter() - started)

    def _report(self, scope: Scope, status: int, seconds: float) -> None:
        method, route = method_of(scope), route_of(scope)
        self._metrics.request(method, route, status, seconds)
        known = {name: scope["state"][name] for name in ("code", "key") if name in scope["state"]}
        _log.info(
            "request",
            method=method,
            route=route,
            status=status,
            ms=round(seconds * 1000, 1),
            **known,
        )


def method_of(scope: Scope) -> str:
    """The method, or `_OTHER` for a made-up one: metrics, spans and the log must not grow with these."""
    return scope["method"] if scope["method"] in _METHODS else _OTHER_METHOD


def route_of(scope: Scope) -> str:
    """The route's pattern, not the address: a metric must not grow with what clients send."""
    if "route" in scope:
        return str(getattr(scope["route"], "path", "unknown"))
    # Refused before a route was chosen.
    return str(scope["path"]) if scope["path"] in (CLASSIFY, EMBEDDINGS, JOBS) else "unknown"
