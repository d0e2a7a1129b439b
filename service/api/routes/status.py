"""What runs here: loaded bundles and limits, health on the KServe v2 paths, metrics."""

from __future__ import annotations

from fastapi import APIRouter, Response
from fastapi.concurrency import run_in_threadpool

from service import __version__
from service.api.context import Context, ContextDep
from service.api.guard.guarded_store import record_edit_of_request
from service.api.intake.body import MAX_FILES
from service.api.openapi import documented
from service.api.prometheus import text_of_workers
from service.api.schemas import Info, Limits, Live, Metric, Model, ModelList, ModelWithCard, Ready
from service.errors import (
    BundleError,
    NotReadyError,
    UnavailableError,
    UnknownBundleError,
)
from service.registry import Bundle

models = APIRouter(prefix="/v1", tags=["models"])
health = APIRouter(tags=["health"])

# How long workers are waited for; Prometheus by default waits 10 s.
_METRICS_S = 3.0


@models.get("/models")
async def list_models(context: ContextDep) -> ModelList:
    """All loaded bundles, the default first."""
    names = context.registry.names()
    return ModelList(data=[_model(context.registry.get(name), name == names[0]) for name in names])


@models.get("/models/{name}", responses=documented(UnknownBundleError))
async def get_model(name: str, context: ContextDep) -> ModelWithCard:
    """One loaded bundle, with its model card."""
    bundle = context.registry.get(name)
    model = _model(bundle, name == context.registry.names()[0])
    return ModelWithCard(**model.model_dump(), card=bundle.card)


@models.post("/models/{name}/reload", responses=documented(BundleError, UnavailableError))
async def reload_model(name: str, context: ContextDep) -> Model:
    """Read the bundle's directory again.

    Requests under way finish on the old bundle, which stays if the new one can't be used. Where several
    workers share the port, each reads it again.
    """
    bundle = await run_in_threadpool(_reload, context, name)
    return _model(bundle, name == context.registry.names()[0])


def _reload(context: Context, name: str) -> Bundle:
    bundle = context.registry.reload(name)
    record_edit_of_request("reload_model", f"models/{name}")
    if (siblings := context.siblings) is not None:
        digests = siblings.ask("reload", name, timeout_s=context.settings.request_timeout_s)
        behind = siblings.worker.n_workers - 1 - list(digests.values()).count(bundle.digest)
        if behind:
            raise NotReadyError(
                f"{behind} of {siblings.worker.n_workers} workers have not read the bundle again: they did "
                "not answer, could not read it, or read other files. Try again; the log has what went wrong."
            )
    return bundle


@models.get("/info")
async def info(context: ContextDep) -> Info:
    """The service's version, bundles and limits."""
    settings, names = context.settings, context.registry.names()
    return Info(
        version=__version__,
        default_bundle=names[0],
        bundles=names,
        limits=Limits(
            max_upload_bytes=settings.max_upload_bytes,
            max_json_bytes=settings.max_json_bytes,
            max_files=MAX_FILES,
            max_labels=settings.max_labels,
            max_labels_per_set=settings.max_labels_per_set,
            max_duration_s=settings.max_duration_s,
            max_segments=settings.max_segments,
        ),
    )


def _model(bundle: Bundle, is_default: bool) -> Model:
    manifest = bundle.manifest
    return Model(
        id=manifest.name,
        created=int(manifest.provenance.created.timestamp()),
        owned_by="ahse",
        version=manifest.version,
        description=manifest.description,
        notice=manifest.notice,
        digest=bundle.digest,
        default=is_default,
        provider=bundle.encoders.visual.provider,
        seen_classes=list(manifest.seen_classes),
        metrics=[
            Metric(name=metric.name, value=metric.value, unit=metric.unit, data=metric.data)
            for metric in manifest.metrics
        ],
    )


@health.head("/v2/health/live", include_in_schema=False)
@health.get("/v2/health/live")
async def live() -> Live:
    """The process answers. Restart it when this fails."""
    return Live()


@health.head("/v2/health/ready", include_in_schema=False)
@health.get("/v2/health/ready", responses=documented(NotReadyError))
async def ready(context: ContextDep) -> Ready:
    """Every part worked when it was tried last: each bundle, the label store, uploads and the decoder."""
    if faults := context.health.faults():
        named = "; ".join(f"{part}: {fault}" for part, fault in sorted(faults.items()))
        raise NotReadyError(f"The service is not ready. {named}")
    return Ready()


@health.get("/metrics", include_in_schema=False)
async def metrics(context: ContextDep) -> Response:
    """Prometheus metrics, of all workers."""
    text = await run_in_threadpool(_metrics, context)
    return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")


def _metrics(context: Context) -> bytes:
    siblings = context.siblings
    if siblings is None:
        return context.metrics.text()
    texts = siblings.ask("metrics", timeout_s=_METRICS_S)
    texts[siblings.worker.number] = context.metrics.text().decode()
    return text_of_workers(texts, siblings.worker.n_workers)
