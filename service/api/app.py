"""Put the service together: settings in, ASGI application out."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

import structlog
from fastapi import FastAPI
from starlette.types import Scope

from service import __version__
from service.api import problems
from service.api.context import ClipWorkers, Context
from service.api.middleware import CLASSIFY, Admission, BodyLimit, RequestContext
from service.api.openapi import openapi_of
from service.api.prometheus import Metrics
from service.api.routes import clips, label_sets, status
from service.api.upload_folder import UploadFolder
from service.batch.batched_encoders import batched
from service.classifier import Classifier
from service.decode.pool import DecodePool
from service.decode.sandbox import Sandbox
from service.embed.embedder import LabelEmbedder
from service.embed.embedding_store import EmbeddingStore
from service.labels.sqlite import SqliteLabelStore
from service.registry import Registry
from service.settings import Settings

_log = structlog.get_logger(__name__)

_STORE_THREADS = 4
_DESCRIPTION = "Which of these names fits this clip best? Audio-visual zero-shot classification."


def create_app(settings: Settings) -> FastAPI:
    """Load the bundles, open the label store and wire the routes.

    Raises:
        BundleError, UnavailableError: The service can't start; the message says why.
    """
    uploads = UploadFolder(settings.upload_dir)
    metrics = Metrics()
    registry = Registry(
        settings.bundles, settings.runtime(), lambda encoders: batched(encoders, settings.budgets(), metrics)
    )
    store = SqliteLabelStore(settings.data_dir / "labels.sqlite3", settings.max_labels_per_set)
    kept = None
    if settings.label_store_size:
        kept = EmbeddingStore(settings.data_dir / "embeddings.sqlite3", settings.label_store_size)
    n_decoders = min(settings.decode_workers, settings.max_concurrency)
    decoder = DecodePool(settings.decode_limits(), n_decoders, on_first_ready=_log_sandbox)
    decoder.start()
    clip_workers = ClipWorkers(settings.max_concurrency)
    metrics.count_clips(lambda: clip_workers.n_taken)
    context = Context(
        settings=settings,
        registry=registry,
        store=store,
        classifier=Classifier(decoder.decode, LabelEmbedder(settings.label_cache_size, kept)),
        metrics=metrics,
        uploads=uploads,
        clip_workers=clip_workers,
        store_workers=ThreadPoolExecutor(_STORE_THREADS, thread_name_prefix="store"),
    )

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        context.clip_workers.shutdown()
        context.store_workers.shutdown(cancel_futures=True)
        decoder.close()
        uploads.close()
        store.close()
        if kept is not None:
            kept.close()

    app = FastAPI(title="AHSE", version=__version__, description=_DESCRIPTION, lifespan=lifespan)
    app.state.context = context
    routers = [clips.router, label_sets.router, status.models, status.health]
    for router in routers:
        app.include_router(router)
    app.openapi = openapi_of(app)  # type: ignore[method-assign]  # FastAPI's documented way
    problems.register(app, [route for router in routers for route in router.routes])
    app.add_middleware(BodyLimit, limit_of=_limit_of(settings), pause_s=settings.upload_pause_s)
    app.add_middleware(Admission, most=settings.max_concurrency + settings.max_waiting)
    app.add_middleware(RequestContext, metrics=context.metrics)
    return app


def _log_sandbox(sandbox: Sandbox) -> None:
    """One line, which says what restricts the decoding processes here."""
    log = _log.info if sandbox.keeps_files_shut else _log.warning
    log("decoder_sandbox", **sandbox.states())


def _limit_of(settings: Settings) -> Callable[[Scope], int]:
    """Clips may be larger than JSON bodies."""

    def limit(scope: Scope) -> int:
        is_upload = scope["path"] == CLASSIFY
        return settings.max_upload_bytes if is_upload else settings.max_json_bytes

    return limit
