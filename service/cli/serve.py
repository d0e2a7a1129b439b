"""`ahse serve`: the HTTP service on one port."""

from __future__ import annotations

import asyncio
import contextlib
import difflib
import os
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from service.cli.command_app import CommandApp
from service.cli.interrupts import exiting_at_once

if TYPE_CHECKING:
    from service.api.guard.connections import ConnectionBounds
    from service.registry import Registry
    from service.settings import Settings

app = CommandApp()

# Open files besides connections and uploads; those of each clip; and connections that are too few to serve.
_FILES = 100
_FILES_PER_CLIP = 8
_MIN_CONNECTIONS = 16


@app.command()
def serve(
    bundle: Annotated[
        list[Path] | None,
        typer.Option(help="Bundle directory; repeat for several, the first is the default."),
    ] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0 takes a free one.")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu or cuda.")] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Where label sets and embeddings are kept.")] = None,
    log_format: Annotated[str | None, typer.Option(help="text or json.")] = None,
    is_open: Annotated[
        bool, typer.Option("--open", help="Let everyone who reaches the port do everything, without a key.")
    ] = False,
) -> None:
    """Serve over HTTP until interrupted. Every setting also has an AHSE_... environment variable."""
    started = time.perf_counter()
    flags: dict[str, Any] = {
        "bundles": tuple(bundle) if bundle else None,
        "host": host,
        "port": port,
        "device": device,
        "data_dir": data_dir,
        "log_format": log_format,
        "open": is_open or None,
    }
    with exiting_at_once():
        settings = read_settings({name: value for name, value in flags.items() if value is not None})
    # Imported here, since help should not wait for a web framework.
    from service.process import set_up_allocator

    set_up_allocator()
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(one) for one in _bind(settings.host, settings.port)]
        if settings.admin_port is not None:
            admin = [stack.enter_context(one) for one in _bind(settings.admin_host, settings.admin_port)]
            settings = settings.model_copy(update={"admin_port": admin[0].getsockname()[1]})
            sockets += admin
        _run(settings, sockets, started)


def read_settings(flags: dict[str, Any]) -> Settings:
    """Settings from flags and environment; an unacceptable value ends the program with exit code 2."""
    from pydantic import ValidationError

    from service.faults import describe_fault
    from service.settings import Settings

    _warn_of_unknown_variables([f"AHSE_{name.upper()}" for name in Settings.model_fields])
    try:
        return Settings(**flags)
    except ValidationError as error:
        for fault in error.errors():
            name = str(fault["loc"][0])
            typer.echo(f"ahse: setting {name} (AHSE_{name.upper()}): {describe_fault(fault)}", err=True)
        raise typer.Exit(2) from None


def _warn_of_unknown_variables(known: list[str]) -> None:
    for name in sorted(os.environ):
        if name.upper().startswith("AHSE_") and name.upper() not in known:
            nearest = difflib.get_close_matches(name.upper(), known, 1)
            hint = f"; did you mean {nearest[0]}?" if nearest else ""
            typer.echo(f"ahse: {name} is not a setting, and is ignored{hint}", err=True)


def _bind(host: str, port: int) -> list[socket.socket]:
    """Take the addresses before any bundle is loaded, so that a port that is in use is reported at once.

    They are not listened on yet: until the service is ready, connections are refused.
    """
    bound: list[socket.socket] = []
    try:
        flags = socket.AI_PASSIVE
        for family, kind, protocol, _, address in socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=flags
        ):
            one = socket.socket(family, kind, protocol)
            bound.append(one)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            # A free port that was chosen for the first address is taken for the others too.
            one.bind((address[0], bound[0].getsockname()[1] or port, *address[2:]))
    except OSError as error:
        for one in bound:
            one.close()
        typer.echo(
            f"ahse: can't listen on {host} port {port}: {error.strerror or error}; "
            "choose another with --host and --port, or stop what listens there",
            err=True,
        )
        raise typer.Exit(2) from None
    return bound


def _run(settings: Settings, sockets: list[socket.socket], started: float) -> None:
    with exiting_at_once():
        import uvicorn

        from service.api.app import create_app
        from service.api.guard.connection_options import connection_options
        from service.api.guard.connections import BoundedConnection
        from service.log import configure_logging

    configure_logging(settings.log_format, settings.log_level)
    options = connection_options(settings)
    app = create_app(settings)
    host, port = sockets[0].getsockname()[:2]
    scheme = "http" if settings.tls_cert is None else "https"
    url = f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            # Requests are answered already; whoever starts the service wants to know when it works.
            health = app.state.context.health
            await asyncio.to_thread(health.wait_for_first, settings.request_timeout_s)
            _announce(url, app.state.context.registry, time.perf_counter() - started)

        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            app.state.context.jobs.end_streams()
            await super().shutdown(sockets)

    config = uvicorn.Config(
        app,
        http=BoundedConnection.within(connection_bounds(settings)),
        timeout_keep_alive=settings.keep_alive_s,
        # Every connection that waits to be accepted holds memory of the system only.
        backlog=settings.max_connections,
        host=settings.host,
        port=port,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=30,
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
