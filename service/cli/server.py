"""The HTTP server of one process."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import typer

from service.cli.interrupts import exiting_at_once

if TYPE_CHECKING:
    from service.api.guard.connections import ConnectionBounds
    from service.api.siblings import Worker
    from service.registry import Registry
    from service.settings import Settings

# Open files besides connections and uploads; those of each clip; and connections that are too few to serve.
_FILES = 100
_FILES_PER_CLIP = 8
_MIN_CONNECTIONS = 16


GRACE_S = 30
"""Running requests have so long to finish when the service ends."""


def run_server(
    settings: Settings,
    sockets: list[socket.socket],
    started: float,
    worker: Worker | None = None,
    on_ready: Callable[[], object] = lambda: None,
) -> None:
    """Serve until SIGTERM or Ctrl-C.

    Args:
        settings: Of the deployment.
        sockets: Bound, and not listened on yet.
        started: When the program was, on the clock of `time.perf_counter`.
        worker: Which of several behind the same sockets this is; None: the only one.
        on_ready: Called when every part has been tried.

    Raises:
        AhseError, typer.Exit: The service can't start.
    """
    with exiting_at_once():
        import uvicorn

        from service.api.app import create_app
        from service.api.guard.connection_options import connection_options
        from service.api.guard.connections import BoundedConnection
        from service.log import configure_logging
        from service.process import set_up_allocator, use_one_thread_per_product

    set_up_allocator()
    use_one_thread_per_product()
    configure_logging(settings.log_format, settings.log_level, None if worker is None else worker.number)
    options, bounds = connection_options(settings), connection_bounds(settings)
    app = create_app(settings, worker)  # last of all that may fail: only what then runs closes it
    host, port = sockets[0].getsockname()[:2]
    scheme = "http" if settings.tls_cert is None else "https"
    url = f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            for one in sockets or ():
                # Every connection that waits to be accepted holds memory of the system only.
                one.listen(settings.max_connections)
            # Requests are answered already; whoever starts the service wants to know when it works.
            health = app.state.context.health
            await asyncio.to_thread(health.wait_for_first, settings.request_timeout_s)
            _announce(url, app.state.context.registry, time.perf_counter() - started)
            on_ready()

        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            app.state.context.jobs.end_streams()
            await super().shutdown(sockets)

    config = uvicorn.Config(
        app,
        http=BoundedConnection.within(bounds),
        timeout_keep_alive=settings.keep_alive_s,
        # asyncio accepts as many connections at a time as the backlog that it is told: of workers that share
        # a port the first to wake up would take all that arrive together.
        backlog=1,
        host=settings.host,
        port=port,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=GRACE_S,
        **options,
    )
    # Raised again by uvicorn after a graceful shutdown by Ctrl-C, which is no error.
    with contextlib.suppress(KeyboardInterrupt):
        Server(config).run(sockets=sockets)


def connection_bounds(settings: Settings) -> ConnectionBounds:
    """What connections may take, as far as the limit on open files allows.

    Raises:
        typer.Exit: The limit leaves too few connections.
    """
    from service.api.guard.connection_options import MAX_HANDSHAKES
    from service.api.guard.connections import ConnectionBounds
    from service.process import allow_open_files

    # Uploads, pipes of decoders, connections of stores for each thread, graphs.
    others = _FILES + settings.max_waiting + _FILES_PER_CLIP * settings.max_concurrency
    others += 0 if settings.tls_cert is None else MAX_HANDSHAKES
    allowed = allow_open_files(settings.max_connections + others) - others
    remedy = f"raise it with: ulimit -n {settings.max_connections + others}"
    if allowed < _MIN_CONNECTIONS:
        typer.echo(f"ahse: the limit on open files leaves too few for connections; {remedy}", err=True)
        raise typer.Exit(2)
    if allowed < settings.max_connections:
        connections = f"{allowed} of {settings.max_connections} connections"
        typer.echo(f"ahse: the limit on open files allows {connections}; {remedy}", err=True)
    return ConnectionBounds(
        max_connections=min(allowed, settings.max_connections),
        header_timeout_s=settings.header_timeout_s,
        min_bytes_per_s=settings.min_bytes_per_s,
    )


def _announce(url: str, registry: Registry, seconds: float) -> None:
    import structlog

    log = structlog.get_logger(__name__)
    for name in registry.names():
        if notice := registry.get(name).manifest.notice:
            log.warning("bundle_notice", bundle=name, notice=notice)
    log.info("serving", url=url, bundles=registry.names(), seconds=round(seconds, 2))
