"""Middleware that puts a span around every request, when traces are on."""

from __future__ import annotations

import structlog
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.middleware import method_of, route_of
from service.tracing import OpenTelemetry, fail

# Asked every few seconds, by machines.
_NOT_TRACED = ("/v2/health/", "/metrics")
_SERVER_ERRORS = 500


class TracedRequests:
    """Spans named by method and route, never by the address, which may hold names of labels.

    Args:
        app: The rest.
        tracing: Makes them.
    """

    def __init__(self, app: ASGIApp, tracing: OpenTelemetry) -> None:
        self._app = app
        self._tracing = tracing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http" or scope["path"].startswith(_NOT_TRACED):
            await self._app(scope, receive, send)
            return
        status = 0

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        with self._tracing.request("request", Headers(scope=scope)) as span:
            trace_id = f"{span.get_span_context().trace_id:032x}"
            try:
                with structlog.contextvars.bound_contextvars(trace_id=trace_id):
                    await self._app(scope, receive, watched)
            finally:
                method, route, state = method_of(scope), route_of(scope), scope.get("state", {})
                span.update_name(f"{method} {route}")
                span.set_attributes(
                    {"http.request.method": method, "http.route": route, "http.response.status_code": status}
                )
                if "request_id" in state:
                    span.set_attribute("ahse.request_id", state["request_id"])
                if "code" in state:
                    span.set_attribute("error.type", state["code"])
                if status >= _SERVER_ERRORS or not status:
                    fail(span, state.get("code", "no_answer"))
