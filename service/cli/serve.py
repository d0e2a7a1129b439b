"""`ahse serve`: the HTTP service on one port."""

from __future__ import annotations

import difflib
import os
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from service.cli.command_app import CommandApp

if TYPE_CHECKING:
    from service.registry import Registry
    from service.settings import Settings

app = CommandApp()
_BACKLOG = 2048


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
    }
    settings = read_settings({name: value for name, value in flags.items() if value is not None})
    # Imported here, since help should not wait for a web framework.
    from service.process import set_up_allocator

    set_up_allocator()
    with _listen(settings.host, settings.port) as listener:
        _run(settings, listener, started)


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
        if name.startswith("AHSE_") and name not in known:
            nearest = difflib.get_close_matches(name, known, 1)
            hint = f"; did you mean {nearest[0]}?" if nearest else ""
            typer.echo(f"ahse: {name} is not a setting, and is ignored{hint}", err=True)


def _listen(host: str, port: int) -> socket.socket:
    """Take the address before any bundle is loaded, so that a taken port is said at once."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        typer.echo(
            f"ahse: can't listen on {host} port {port}: {error.strerror or error}; "
            "choose another with --host and --port, or stop what listens there",
            err=True,
        )
        raise typer.Exit(2) from None


def _run(settings: Settings, listener: socket.socket, started: float) -> None:
    import uvicorn

    from service.api.app import create_app
    from service.log import configure_logging

    configure_logging(settings.log_format, settings.log_level)
    app = create_app(settings)
    port = int(listener.getsockname()[1])
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    _announce(f"http://{host}:{port}", app.state.context.registry, time.perf_counter() - started)
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=port,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=30,
    )
    uvicorn.Server(config).run(sockets=[listener])


def _announce(url: str, registry: Registry, seconds: float) -> None:
    import structlog

    log = structlog.get_logger(__name__)
    for name in registry.names():
        if notice := registry.get(name).manifest.notice:
            log.warning("bundle_notice", bundle=name, notice=notice)
    log.info("serving", url=url, bundles=registry.names(), seconds=round(seconds, 2))
