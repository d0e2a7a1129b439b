"""Health on the KServe v2 paths, and metrics."""

from __future__ import annotations

from fastapi import APIRouter, Response

from service.api.context import ContextDep
from service.api.openapi import documented
from service.api.schemas import Live, Ready
from service.errors import StoreUnavailableError

router = APIRouter(tags=["health"])


@router.head("/v2/health/live", include_in_schema=False)
@router.get("/v2/health/live")
async def live() -> Live:
    """The process answers. Restart it when this fails."""
    return Live()


@router.head("/v2/health/ready", include_in_schema=False)
@router.get("/v2/health/ready", responses=documented(StoreUnavailableError))
async def ready(context: ContextDep) -> Ready:
    """The bundles are loaded and the label store answers. Send no requests while this fails."""
    await context.ask_store(context.store.check)
    return Ready()


@router.get("/metrics", include_in_schema=False)
async def metrics(context: ContextDep) -> Response:
    """Prometheus metrics."""
    return Response(context.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")
