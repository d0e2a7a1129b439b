"""Put the service together: settings in, ASGI application out."""

from __future__ import annotations

import asyncio
import io
import wave
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial

import numpy as np
import structlog
from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import BaseRoute

from service import __version__
from service.access.hosts import check_exposure, is_loopback
from service.access.key_ring import KeyRing
from service.access.key_store import KeyStore
from service.access.rates import Rates
from service.api import problems
from service.api.context import Context, Workers
from service.api.guard.access import Access, AccessRules
from service.api.guard.admission import Admission, BodyBounds
from service.api.guard.byte_budget import ByteBudget
from service.api.guard.guarded_store import GuardedStore
from service.api.guard.security_headers import SecurityHeaders
from service.api.health_monitor import Check, HealthMonitor
from service.api.intake.fetch import Fetcher, FetchLimits
from service.api.intake.upload_folder import UploadFolder
from service.api.jobs.board import JobBoard
from service.api.jobs.runner import JobRunner
from service.api.jobs.webhooks import WebhookSender
from service.api.middleware import RequestContext
from service.api.openapi import openapi_of
from service.api.problems import HEADER
from service.api.prometheus import Metrics
from service.api.question import embed_label_set
from service.api.routes import clips, embeddings, label_sets, page, status
from service.api.routes import jobs as job_routes
from service.api.siblings import Siblings, Worker
from service.api.tracing import TracedRequests
from service.api.warmer import Warmer
from service.batch.batched_encoders import batched
from service.classifier import Classifier, decode_spec, try_bundle
from service.decode.pool import DecodePool
from service.decode.sandbox import Sandbox
from service.embed.embedder import LabelEmbedder
from service.encode.known_clips import KnownClips
from service.errors import SettingsError
from service.jobs.store import JobStore
from service.labels.store import LabelStore
from service.registry import Registry
from service.settings import Settings
from service.stores import Stores
from service.tracing import OpenTelemetry, open_tracing

_log = structlog.get_logger(__name__)

_STORE_READERS = 2
# Bodies with jobs that arrive at once.
_JOB_UPLOADS = 8
# What pages of other sites may send and read, where they are let in.
_CORS_ALLOWED = (
    "Authorization", "X-API-Key", "If-Match", "If-None-Match", "Idempotency-Key", "Last-Event-ID", HEADER,
)  # fmt: skip
_CORS_EXPOSED = ("ETag", "Location", "Retry-After", "Warning", "Content-Disposition", HEADER, "Server-Timing")
_DESCRIPTION = "Which of these names fits this clip best? Audio-visual zero-shot classification."


def create_app(settings: Settings, worker: Worker | None = None) -> FastAPI:
    """Load the bundles, open the label store and wire the routes.

    Args:
        settings: Of the deployment.
        worker: Which of several workers behind one port this is; None: the only one.

    Raises:
        BundleError, UnavailableError: The service can't start; the message says why.
    """
    tracing = open_tracing(settings.traces)
    stores = Stores(settings)
    ring = _open_keys(settings, stores.keys())
    uploads = UploadFolder(settings.upload_dir, _own_bytes_on_disk(settings, worker))
    metrics = Metrics()
    registry = Registry(
        settings.bundles, settings.runtime(), lambda encoders: batched(encoders, settings.budgets(), metrics)
    )
    store = stores.labels()
    kept, kept_clips = stores.embeddings(), stores.clips()
    n_decoders = min(settings.decode_workers, settings.max_concurrency)
    decoder = DecodePool(settings.decode_limits(), n_decoders, on_first_ready=_log_sandbox)
    decoder.start()
    clip_workers = Workers("clip", settings.max_concurrency)
    jobs, job_writer = _open_jobs(settings, stores.jobs()), Workers("job writer", 1)
    store_writer = Workers("store writer", 1)
    metrics.count_clips(lambda: clip_workers.n_taken)
    metrics.watch_store(lambda: stores.is_away)
    health = HealthMonitor(
        {
            **_checks(registry, store, store_writer, uploads, decoder),
            "job store": lambda: job_writer.call(jobs.store.check),
        },
        settings.health_interval_s,
        settings.request_timeout_s,
    )
    embedder = LabelEmbedder(settings.label_cache_bytes, kept)
    context = Context(
        settings=settings,
        registry=registry,
        store=GuardedStore(store),
        classifier=Classifier(
            decoder.decode, embedder, KnownClips(settings.clip_cache_bytes, kept_clips), tracing
        ),
        metrics=metrics,
        tracing=tracing,
        uploads=uploads,
        budget=ByteBudget(settings.max_bytes_in_flight),
        health=health,
        fetcher=_fetcher(settings),
        clip_workers=clip_workers,
        name_workers=Workers("names", settings.max_concurrency),
        warmer=Warmer(metrics),
        store_readers=Workers("store reader", _STORE_READERS),
        store_writer=store_writer,
        jobs=jobs,
        job_writer=job_writer,
        siblings=None if worker is None else _siblings(worker, metrics, registry),
    )
    runner = _job_runner(context, embedder)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        ring.start()
        health.start()
        runner.start()
        if worker is not None:  # the others take requests meanwhile
            await asyncio.to_thread(health.wait_for_first, settings.request_timeout_s)
        context.warmer.start(partial(embed_label_set, context))
        yield
        await context.warmer.close()
        await runner.close()
        health.close()
        if context.siblings is not None:
            context.siblings.close()
        ring.close()
        for workers in (
            context.clip_workers,
            context.name_workers,
            context.store_readers,
            store_writer,
            job_writer,
        ):
            workers.shutdown()
        decoder.close()
        uploads.close()
        store.close()
        jobs.close()
        for cache in (kept, kept_clips):
            if cache is not None:
                cache.close()
        stores.close()
        tracing.close()

    app = FastAPI(
        title="AHSE",
        version=__version__,
        description=_DESCRIPTION,
        lifespan=lifespan,
        # FastAPI's own telemetry sends addresses and texts of exceptions, which may hold names of labels.
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
        docs_url=None,  # routes/page has a viewer that needs no other host
        redoc_url=None,
        # A label named `..`, whose address a client has shortened, would redirect DELETE to the whole set.
        redirect_slashes=False,
    )
    app.state.context = context
    app.state.job_runner = runner
    app.state.keys = ring
    routers = [
        clips.router,
        embeddings.router,
        job_routes.router,
        label_sets.router,
        status.models,
        status.health,
        page.router,
    ]
    for router in routers:
        app.include_router(router)
    routes = [route for router in routers for route in router.routes]
    app.openapi = openapi_of(app, lambda: ring.needs_key)  # type: ignore[method-assign]  # FastAPI's documented way
    problems.register(app, routes)
    app.add_middleware(Admission, bounds=_body_bounds(settings), budget=context.budget)
    _guard(app, settings, ring, routes)
    app.add_middleware(RequestContext, metrics=context.metrics)
    app.add_middleware(SecurityHeaders)
    if isinstance(tracing, OpenTelemetry):
        app.add_middleware(TracedRequests, tracing=tracing)
    return app


def _own_bytes_on_disk(settings: Settings, worker: Worker | None) -> int:
    """Bytes of uploads of one worker: all workers write to one disk. The largest upload fits in any case."""
    n_workers = 1 if worker is None else worker.n_workers
    return max(settings.max_bytes_on_disk // n_workers, settings.max_upload_bytes)


def _open_keys(settings: Settings, store: KeyStore) -> KeyRing:
    """The keys, once it is sure that nobody gets in by accident."""
    secret = settings.api_key
    ring = KeyRing(store, None if secret is None else secret.get_secret_value())
    listening = [settings.host, *([] if settings.admin_port is None else [settings.admin_host])]
    try:
        check_exposure(listening, has_key=ring.needs_key, is_open=settings.open)
    except SettingsError:
        ring.close()
        raise
    if settings.open:
        _log.warning("open", meaning="everyone who reaches the port may do everything", addresses=listening)
    return ring


def _guard(app: FastAPI, settings: Settings, ring: KeyRing, routes: Sequence[BaseRoute]) -> None:
    """Put access control in front of all that reads a body."""
    rules = AccessRules(
        allowed_hosts=settings.allowed_hosts,
        origins=settings.cors_origins,
        admin_port=settings.admin_port,
        admin_needs_key=not is_loopback(settings.admin_host),
    )
    app.add_middleware(Access, ring=ring, rates=Rates(settings.rate_limit), rules=rules, routes=routes)
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=("GET", "HEAD", "POST", "PUT", "DELETE"),
            allow_headers=_CORS_ALLOWED,
            expose_headers=_CORS_EXPOSED,
        )


def _siblings(worker: Worker, metrics: Metrics, registry: Registry) -> Siblings:
    def reload(name: str) -> str:
        """Digest of the bundle that was read again; empty: it could not be."""
        try:
            return registry.reload(name).digest
        except Exception as error:  # noqa: BLE001  (nobody else would tell of it)
            _log.error("reload_failed", bundle=name, exc_info=error)
            return ""

    return Siblings(worker, {"metrics": lambda: metrics.text().decode(), "reload": reload})


def _log_sandbox(sandbox: Sandbox) -> None:
    """One line, which says what restricts the decoding processes here."""
    log = _log.info if sandbox.keeps_files_shut else _log.warning
    log("decoder_sandbox", **sandbox.states())


def _body_bounds(settings: Settings) -> BodyBounds:
    return BodyBounds(
        max_upload_bytes=settings.max_upload_bytes,
        max_json_bytes=settings.max_json_bytes,
        max_job_bytes=settings.max_job_bytes,
        max_clips=settings.max_concurrency + settings.max_waiting,
        max_jobs=_JOB_UPLOADS,
        pause_s=settings.upload_pause_s,
        body_timeout_s=settings.body_timeout_s,
        min_bytes_per_s=settings.min_bytes_per_s,
        request_timeout_s=settings.request_timeout_s,
    )


def _fetcher(settings: Settings) -> Fetcher | None:
    """A clip from a URL has the size of an upload, and the time of its request."""
    limits = FetchLimits(settings.max_upload_bytes, settings.upload_pause_s, settings.request_timeout_s)
    return Fetcher(limits) if settings.url_input else None


def _open_jobs(settings: Settings, store: JobStore) -> JobBoard:
    sender = WebhookSender() if settings.webhooks else None
    return JobBoard(store, UploadFolder(store.folder.path, settings.max_job_bytes), sender)


def _job_runner(context: Context, embedder: LabelEmbedder) -> JobRunner:
    """What works on jobs, with the time that jobs have."""
    settings = context.settings.model_copy(update={"request_timeout_s": context.settings.job_timeout_s})
    return JobRunner(context, settings, embedder, _fetcher(settings))


def _checks(
    registry: Registry, store: LabelStore, writer: Workers, uploads: UploadFolder, decoder: DecodePool
) -> dict[str, Check]:
    """What makes the service ready, each tried for real."""
    tone = _short_tone()

    def decode() -> None:
        with uploads.private() as private:
            (private.path / "clip").write_bytes(tone)
            decoder.decode(private.path / "clip", decode_spec(registry.get().manifest))

    def bundle(name: str) -> None:
        try_bundle(registry.get(name))

    return {
        **{f"bundle {name}": partial(bundle, name) for name in registry.names()},
        # Among the changes of requests: beside them it could wait until the store gives up.
        "label store": lambda: writer.call(store.check),
        "uploads": uploads.check,
        "decoder": decode,
    }


def _short_tone() -> bytes:
    """A WAV file of 0.1 s."""
    samples = (0.5 * np.sin(np.arange(1600) * 0.2) * 2**15).astype("<i2")
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setparams((1, 2, 16_000, len(samples), "NONE", "not compressed"))
        writer.writeframes(samples.tobytes())
    return file.getvalue()
