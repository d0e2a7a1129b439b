"""Middleware: headers that tell browsers what an answer must not be used for."""

from __future__ import annotations

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.scopes import DOCUMENTATION

# An answer is data: it loads nothing, is shown in no frame, and no other site may embed it.
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_CSP = "default-src 'none'; frame-ancestors 'none'"
# FastAPI's pages are one inline script each, which loads the rest from these places.
_DOCUMENTATION_CSP = (
    "default-src 'none'; connect-src 'self'; worker-src blob:; "
    "script-src 'unsafe-inline' https://cdn.jsdelivr.net; "
    "style-src 'unsafe-inline' https://cdn.jsdelivr.net https://fonts.googleapis.com; "
    "font-src https://fonts.gstatic.com; "
    "img-src 'self' data: https://fastapi.tiangolo.com https://cdn.redoc.ly; "
    "frame-ancestors 'none'"
)
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
    is_page = scope["path"] in DOCUMENTATION
    headers.setdefault("Content-Security-Policy", _DOCUMENTATION_CSP if is_page else _CSP)
    # What has an ETag may be kept, and is asked for again each time; nothing else may be kept.
    headers.setdefault("Cache-Control", "private, no-cache" if "etag" in headers else "no-store")
    if scope["scheme"] == "https":
        headers.setdefault("Strict-Transport-Security", _HSTS)
