"""/ and /docs: the pages for people, whose files are part of the package. They are the same for everyone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from fastapi import APIRouter, Request, Response
from starlette.staticfiles import StaticFiles

router = APIRouter(include_in_schema=False)

# All that a page is made of comes from this service; blob: is a clip that a person has chosen.
_CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "media-src 'self' blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_FILES = StaticFiles(directory=Path(__file__).resolve().parents[2] / "page")


def _either(path: str) -> Callable[[Callable[..., object]], Callable[..., object]]:
    """A route for GET and HEAD."""
    return router.api_route(path, methods=["GET", "HEAD"])


@_either("/")
async def index(request: Request) -> Response:
    """Classify a clip, edit label sets, read about the bundle."""
    return await _file("index.html", request)


@_either("/docs")
async def docs(request: Request) -> Response:
    """The OpenAPI document, for reading and trying."""
    return await _file("docs.html", request)


@_either("/page/{path:path}")
async def file(path: str, request: Request) -> Response:
    """What the pages load."""
    return await _file(path, request)


async def _file(path: str, request: Request) -> Response:
    """One file, or 404; 304 where the browser has it."""
    answer = await _FILES.get_response(path, request.scope)
    answer.headers["Content-Security-Policy"] = _CSP
    return answer
