"""`ahse serve`: the HTTP service on one port."""

from __future__ import annotations

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
    from service.settings import Settings

app = CommandApp()


@app.command()
def serve(
    bundle: Annotated[
        list[Path] | None,
        typer.Option(help="Bundle directory; repeat for several, the first is the default."),
    ] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0 takes a free one.")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu or cuda.")] = None,
    workers: Annotated[
        int | None, typer.Option(help="Server processes behind the port; each takes a GPU in turn.")
    ] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Where label sets, keys and jobs are kept.")] = None,
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
        "workers": workers,
        "data_dir": data_dir,
        "log_format": log_format,
        "open": is_open or None,
    }
    with exiting_at_once():
        settings = read_settings({name: value for name, value in flags.items() if value is not None})
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(one) for one in _bind(settings.host, settings.port)]
        if settings.admin_port is not None:
            admin = [stack.enter_context(one) for one in _bind(settings.admin_host, settings.admin_port)]
            settings = settings.model_copy(update={"admin_port": admin[0].getsockname()[1]})
            sockets += admin
        # Imported here, since help should not wait for them.
        if settings.workers == 1:
            from service.cli.server import run_server

            run_server(settings, sockets, started)
        else:
            from service.cli.workers import run_workers

            raise typer.Exit(run_workers(settings, sockets))


def read_settings(flags: dict[str, Any]) -> Settings:
    """Settings from flags and environment; an unacceptable value ends the program with exit code 2."""
    from pydantic import ValidationError

    from service.settings import Settings, setting_faults

    _warn_of_unknown_variables([f"AHSE_{name.upper()}" for name in Settings.model_fields])
    try:
        return Settings(**flags)
    except ValidationError as error:
        for fault in setting_faults(error):
            typer.echo(f"ahse: {fault}", err=True)
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
