"""Middleware: headers that tell browsers what an answer must not be used for."""

from __future__ import annotations

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

# An answer is data: it loads nothing, is shown in no frame, and no other site may embed it.
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_CSP = "default-src 'none'; frame-ancestors 'none'"
_HSTS = "max-age=31536000"


class SecurityHeaders:
    """Adds them to every answer, refusals and unforeseen errors too, where the answer has none of its own."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def completed(message: Message) -> None:
            if message["type"] == "http.response.start":
                _complete(MutableHeaders(scope=message), scope)
            await send(message)

        await self._app(scope, receive, completed)


def _complete(headers: MutableHeaders, scope: Scope) -> None:
    for name, value in _HEADERS.items():
        headers.setdefault(name, value)
    headers.setdefault("Content-Security-Policy", _CSP)
    # What has an ETag may be kept, and is asked for again each time; nothing else may be kept.
    headers.setdefault("Cache-Control", "private, no-cache" if "etag" in headers else "no-store")
    if scope["scheme"] == "https":
        headers.setdefault("Strict-Transport-Security", _HSTS)
