"""What surrounds every request: its id, its log line and its metrics."""

from __future__ import annotations

import time

import structlog
from starlette.datastructures import MutableHeaders
from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.addresses import CLASSIFY
from service.api.metrics import Metrics
from service.api.problems import unforeseen
from service.api.request_id import HEADER, assign_request_id

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
