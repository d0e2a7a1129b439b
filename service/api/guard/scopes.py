"""What each address needs: one table. An address that is not in it needs an admin key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from starlette.routing import BaseRoute, Match
from starlette.types import Scope as RequestScope

from service.access.keys import Scope

Need = Scope | Literal["nothing", "any key"]

NEEDS: Mapping[str, Need] = {
    "POST /v1/classify": "classify",
    "POST /v1/embeddings": "classify",
    "POST /v1/jobs": "classify",
    "GET /v1/jobs": "classify",
    "GET /v1/jobs/{job_id}": "classify",
    "DELETE /v1/jobs/{job_id}": "classify",
    "POST /v1/jobs/{job_id}/cancel": "classify",
    "GET /v1/jobs/{job_id}/results": "classify",
    "GET /v1/jobs/{job_id}/events": "classify",
    "GET /v1/label-sets": "any key",
    "GET /v1/label-sets/{name}": "any key",
    "PUT /v1/label-sets/{name}": "labels",
    "DELETE /v1/label-sets/{name}": "labels",
    "POST /v1/label-sets/{name}/labels": "labels",
    "DELETE /v1/label-sets/{name}/labels/{label}": "labels",
    "GET /v1/models": "any key",
    "GET /v1/models/{name}": "any key",
    "POST /v1/models/{name}/reload": "admin",
    "GET /v1/info": "any key",
    "GET /v2/health/live": "nothing",
    "HEAD /v2/health/live": "nothing",
    "GET /v2/health/ready": "nothing",
    "HEAD /v2/health/ready": "nothing",
    "GET /metrics": "admin",
    # Pages for people: their files are the same for everyone, and what they ask needs a key as ever.
    "GET /": "nothing",
    "HEAD /": "nothing",
    "GET /docs": "nothing",
    "HEAD /docs": "nothing",
    "GET /page/{path}": "nothing",
    "HEAD /page/{path}": "nothing",
}
METRICS = "GET /metrics"
# The framework's own route, which is the same for everyone.
DOCUMENT = "/openapi.json"
HEALTH = "/v2/health/"


def place_of(scope: RequestScope, routes: Sequence[BaseRoute]) -> str:
    """Method and pattern of a request's address, such as `GET /v1/models/{name}`; empty: nothing is there."""
    if scope["path"] == DOCUMENT:
        return DOCUMENT
    for route in routes:
        if route.matches(scope)[0] is Match.FULL:
            return f"{scope['method']} {getattr(route, 'path_format', '')}"
    return ""


def need_of(place: str) -> Need:
    """What a request to a place needs. Whether there is anything at an address is told to any key."""
    if place == DOCUMENT:
        return "nothing"
    return NEEDS.get(place, "admin") if place else "any key"
