"""Put the service together: settings in, ASGI application out."""

from __future__ import annotations

import asyncio
import io
import wave
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, ExitStack, asynccontextmanager, closing
from ctypes import c_bool
from functools import partial

import numpy as np
import structlog
from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import BaseRoute

from service import __version__
from service.access.hosts import check_exposure, is_loopback
from service.access.key_ring import KeyRing
from service.access.rates import Rates
from service.api import problems
from service.api.context import Context
from service.api.guard.access import Access, AccessRules
from service.api.guard.admission import Admission, BodyBounds
from service.api.guard.byte_budget import ByteBudget
from service.api.guard.guarded_store import GuardedStore
from service.api.guard.security_headers import SecurityHeaders
from service.api.headers import REQUEST_ID_HEADER
from service.api.health_monitor import Check, HealthMonitor
from service.api.intake.fetch import Fetcher, FetchLimits
from service.api.intake.upload_folder import UploadFolder
from service.api.jobs.board import JobBoard
from service.api.jobs.runner import JobRunner
from service.api.jobs.webhooks import WebhookSender
from service.api.middleware import RequestContext
from service.api.openapi import openapi_of
from service.api.prometheus import Metrics
from service.api.question import embed_label_set
from service.api.routes import clips, embeddings, label_sets, page, status
from service.api.routes import jobs as job_routes
from service.api.siblings import Siblings, Worker
from service.api.thread_pool import ThreadPool
from service.api.tracing import TracedRequests
from service.api.warmer import Warmer
from service.batch.batched_encoders import Batching
from service.classifier import Classifier, decode_spec, try_bundle
from service.decode.pool import DecodePool
from service.decode.sandbox import Sandbox
from service.embed.embedder import LabelEmbedder
from service.encode.known_clips import KnownClips
from service.errors import UploadUnavailableError
from service.labels.store import LabelStore
from service.registry import Registry
from service.settings import Settings
from service.stores import Stores
from service.tracing import OpenTelemetry, Tracing, open_tracing

_log = structlog.get_logger(__name__)

_STORE_READERS = 2
# Bodies with jobs that arrive at once.
_JOB_UPLOADS = 8
# What pages of other sites may send and read, where they are let in.
_CORS_ALLOWED = (
    "Authorization", "X-API-Key", "If-Match", "If-None-Match", "Idempotency-Key", "Last-Event-ID",
    REQUEST_ID_HEADER,
)  # fmt: skip
_CORS_EXPOSED = (
    "ETag", "Location", "Retry-After", "Warning", "Content-Disposition", REQUEST_ID_HEADER, "Server-Timing",
)  # fmt: skip
_DESCRIPTION = "Which of these names fits this clip best? Audio-visual zero-shot classification."
_ROUTERS = (
    clips.router,
    embeddings.router,
    job_routes.router,
    label_sets.router,
    status.models,
    status.health,
    page.router,
)


def create_app(settings: Settings, worker: Worker | None = None) -> FastAPI:
    """Open all parts of the service, which its end closes, and wire the routes.

    Args:
        settings: Of the deployment.
        worker: Which of several workers behind one port this is; None: the only one.

    Raises:
        BundleError, UnavailableError, SettingsError: The service can't start; the message says why.
    """
    opened = ExitStack()
    try:
        stores = opened.enter_context(closing(Stores(settings)))
        ring = _open_keys(settings, stores, worker, opened)
        context, embedder = _open_parts(settings, stores, worker, opened)
        runner = _job_runner(context, embedder)
        app = FastAPI(
            title="AHSE",
            version=__version__,
            description=_DESCRIPTION,
            lifespan=_lifespan(context, ring, runner, opened),
            # FastAPI's own telemetry sends addresses and texts of exceptions, which may hold names of labels.
            telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
            docs_url=None,  # routes/page has a viewer that needs no other host
            redoc_url=None,
            # DELETE of a label named `..`, whose address a client has shortened, would redirect to the set.
            redirect_slashes=False,
        )
        app.state.context = context
        app.state.job_runner = runner
        app.state.keys = ring
        _mount(app, context, ring)
    except BaseException:
        opened.close()
        raise
    return app


def _open_parts(
    settings: Settings, stores: Stores, worker: Worker | None, opened: ExitStack
) -> tuple[Context, LabelEmbedder]:
    """What routes share. It is closed in the opposite order: pools before the stores that they work on."""
    tracing = opened.enter_context(closing(open_tracing(settings.traces)))
    uploads = opened.enter_context(UploadFolder(settings.upload_dir, _own_bytes_on_disk(settings, worker)))
    metrics = Metrics()
    batching = Batching(settings.budgets(), metrics)
    registry = Registry(settings.bundles, settings.runtime(), batching.wrap)
    store = opened.enter_context(closing(stores.labels()))
    jobs = _open_jobs(settings, stores, opened)
    classifier, embedder, decoder = _open_classifier(settings, stores, tracing, opened)

    def open_pool(name: str, n_threads: int) -> ThreadPool:
        return opened.enter_context(closing(ThreadPool(name, n_threads)))

    clip_workers = open_pool("clip", settings.max_concurrency)
    store_writer, job_writer = open_pool("store writer", 1), open_pool("job writer", 1)
    metrics.count_clips(lambda: clip_workers.n_taken)
    metrics.watch_store(lambda: stores.is_away)
    checks = _checks(registry, store, store_writer, uploads, decoder)
    checks["job store"] = lambda: job_writer.call(jobs.store.check)
    health = HealthMonitor(checks, settings.health_interval_s, settings.request_timeout_s)
    context = Context(
        settings=settings,
        registry=registry,
        store=GuardedStore(store),
        classifier=classifier,
        metrics=metrics,
        tracing=tracing,
        uploads=uploads,
        budget=ByteBudget(settings.max_bytes_in_flight),
        health=opened.enter_context(closing(health)),
        fetcher=_fetcher(settings),
        clip_workers=clip_workers,
        name_workers=open_pool("names", settings.max_concurrency),
        warmer=Warmer(metrics),
        store_readers=open_pool("store reader", _STORE_READERS),
        store_writer=store_writer,
        jobs=jobs,
        job_writer=job_writer,
        siblings=None if worker is None else _open_siblings(worker, metrics, registry, opened),
    )
    return context, embedder


def _lifespan(
    context: Context, ring: KeyRing, runner: JobRunner, opened: ExitStack
) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    """What runs beside requests, and ends before all that was opened is closed."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as running:
            running.enter_context(opened)
            ring.start()
            context.health.start()
            runner.start()
            running.push_async_callback(runner.close)
            if context.siblings is not None:  # the others take requests meanwhile
                await asyncio.to_thread(context.health.wait_for_first, context.settings.request_timeout_s)
            context.warmer.start(partial(embed_label_set, context))
            running.push_async_callback(context.warmer.close)
            yield

    return lifespan


def _mount(app: FastAPI, context: Context, ring: KeyRing) -> None:
    """Routes, their documentation, and what stands around them: what is added last sees a request first."""
    for router in _ROUTERS:
        app.include_router(router)
    routes = [route for router in _ROUTERS for route in router.routes]
    app.openapi = openapi_of(app, lambda: ring.needs_key)  # type: ignore[method-assign]  # FastAPI's documented way
    problems.register(app, routes)
    app.add_middleware(Admission, bounds=_body_bounds(context.settings), budget=context.budget)
    _guard(app, context.settings, ring, routes)
    app.add_middleware(RequestContext, metrics=context.metrics)
    app.add_middleware(SecurityHeaders)
    if isinstance(context.tracing, OpenTelemetry):
        app.add_middleware(TracedRequests, tracing=context.tracing)


def _own_bytes_on_disk(settings: Settings, worker: Worker | None) -> int:
    """Bytes of uploads of one worker: all workers write to one disk. The largest upload fits in any case."""
    n_workers = 1 if worker is None else worker.n_workers
    return max(settings.max_bytes_on_disk // n_workers, settings.max_upload_bytes)


def _open_keys(settings: Settings, stores: Stores, worker: Worker | None, opened: ExitStack) -> KeyRing:
    """The keys, once it is sure that nobody gets in by accident."""
    seen_key = c_bool() if worker is None else worker.seen_key
    key_was_seen = seen_key.value
    secret = None if settings.api_key is None else settings.api_key.get_secret_value()
    store = opened.enter_context(closing(stores.keys()))
    ring = opened.enter_context(closing(KeyRing(store, secret, seen_key)))
    if not key_was_seen:  # else the service passed this check, and now needs a key in any case
        listening = [settings.host, *([] if settings.admin_port is None else [settings.admin_host])]
        check_exposure(listening, has_key=ring.needs_key, is_open=settings.open)
        if settings.open:
            _log.warning(
                "open", meaning="everyone who reaches the port may do everything", addresses=listening
            )
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


def _open_siblings(worker: Worker, metrics: Metrics, registry: Registry, opened: ExitStack) -> Siblings:
    def reload(name: str) -> str:
        """Digest of the bundle that was read again; empty: it could not be."""
        try:
            return registry.reload(name).digest
        except Exception as error:  # noqa: BLE001  (nobody else would tell of it)
            _log.error("reload_failed", bundle=name, exc_info=error)
            return ""

    siblings = Siblings(worker, {"metrics": lambda: metrics.text().decode(), "reload": reload})
    return opened.enter_context(closing(siblings))


def _open_classifier(
    settings: Settings, stores: Stores, tracing: Tracing, opened: ExitStack
) -> tuple[Classifier, LabelEmbedder, DecodePool]:
    """The flow, with what embeds names and what decodes clips in it."""
    if (kept := stores.embeddings()) is not None:
        opened.callback(kept.close)
    if (kept_clips := stores.clips()) is not None:
        opened.callback(kept_clips.close)
    n_decoders = min(settings.decode_workers, settings.max_concurrency)
    decoder = DecodePool(settings.decode_limits(), n_decoders, on_first_ready=_log_sandbox)
    opened.callback(decoder.close)
    decoder.start()
    embedder = LabelEmbedder(settings.label_cache_bytes, kept)
    known_clips = KnownClips(settings.clip_cache_bytes, kept_clips)
    return Classifier(decoder.decode, embedder, known_clips, tracing), embedder, decoder


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


def _open_jobs(settings: Settings, stores: Stores, opened: ExitStack) -> JobBoard:
    store = opened.enter_context(closing(stores.jobs()))
    arriving = opened.enter_context(UploadFolder(store.folder.path, settings.max_job_bytes))
    sender = WebhookSender() if settings.webhooks else None
    return JobBoard(store, arriving, sender)


def _job_runner(context: Context, embedder: LabelEmbedder) -> JobRunner:
    """What works on jobs, with the time that jobs have."""
    settings = context.settings.model_copy(update={"request_timeout_s": context.settings.job_timeout_s})
    return JobRunner(context, settings, embedder, _fetcher(settings))


def _checks(
    registry: Registry, store: LabelStore, writer: ThreadPool, uploads: UploadFolder, decoder: DecodePool
) -> dict[str, Check]:
    """What makes the service ready, each tried for real."""
    tone = _short_tone()

    def decode() -> None:
        with uploads.private() as private:
            try:
                (private.path / "clip").write_bytes(tone)
            except OSError as error:
                raise UploadUnavailableError("could not be tried: uploads can't be put on disk") from error
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
