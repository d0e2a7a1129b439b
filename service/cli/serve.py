"""`ahse serve`: the HTTP service on one port."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from service.allocator import settle_memory
from service.settings import Settings

if TYPE_CHECKING:
    from service.bundle.registry import Registry


def serve(
    bundle: Annotated[
        list[Path] | None,
        typer.Option(help="Bundle directory; repeat for several, the first is the default."),
    ] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0 takes a free one.")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda or tensorrt.")] = None,
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
    settle_memory()
    # Imported here: `ahse classify --help` should not wait for a web framework.
    import uvicorn

    from service.api.app import create_app
    from service.log import configure_logging

    configure_logging(settings.log_format, settings.log_level)
    app = create_app(settings)
    _announce(settings, app.state.context.registry, time.perf_counter() - started)
    uvicorn.run(
        app,
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=30,
    )


def read_settings(flags: dict[str, Any]) -> Settings:
    """Settings from flags and environment; an unacceptable value ends the program with exit code 2."""
    from pydantic import ValidationError

    try:
        return Settings(**flags)
    except ValidationError as error:
        for fault in error.errors():
            name = ".".join(str(part) for part in fault["loc"])
            typer.echo(f"ahse: setting {name} (AHSE_{name.upper()}): {fault['msg']}", err=True)
        raise typer.Exit(2) from None


def _announce(settings: Settings, registry: Registry, seconds: float) -> None:
    import structlog

    log = structlog.get_logger(__name__)
    log.info(
        "loaded", bundles=registry.names(), host=settings.host, port=settings.port, seconds=round(seconds, 2)
    )
    for name in registry.names():
        if notice := registry.get(name).manifest.notice:
            log.warning("bundle_notice", bundle=name, notice=notice)
