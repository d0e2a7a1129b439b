"""`ahse keys`: make, list and revoke the API keys of a data directory or of a shared store."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli.command_app import CommandApp

if TYPE_CHECKING:
    from service.access.key_store import KeyStore
    from service.access.keys import ApiKey, Scope

app = CommandApp(no_args_is_help=True)
DataDir = Annotated[Path | None, typer.Option(help="Data directory of the service.")]


@app.callback()
def _root() -> None:
    """Make, list and revoke API keys. Running services notice within a second."""


@app.command()
def create(
    name: Annotated[str, typer.Option(help="What or who the key is for; logs contain it.")],
    scope: Annotated[
        list[str] | None,
        typer.Option(
            help="classify (the default), labels (edit label sets) or admin (everything); repeat for several."
        ),
    ] = None,
    expires: Annotated[str | None, typer.Option(help="Age at which it ends.", metavar="90d|12h|30m")] = None,
    rate: Annotated[
        str | None, typer.Option(help="Maximum rate of its requests.", metavar="60/minute")
    ] = None,
    label_sets: Annotated[
        int | None, typer.Option(min=0, metavar="N", help="Maximum label sets that it may own.")
    ] = None,
    labels: Annotated[
        int | None, typer.Option(min=0, metavar="N", help="Maximum labels in its sets together.")
    ] = None,
    bytes_per_day: Annotated[
        int | None, typer.Option(min=0, metavar="N", help="Maximum bytes that it may send in a day.")
    ] = None,
    jobs: Annotated[
        int | None, typer.Option(min=0, metavar="N", help="Maximum jobs that are kept for it.")
    ] = None,
    data_dir: DataDir = None,
) -> None:
    """Make a key and print it, once: only its hash is kept."""
    from service.access.keys import Quotas, make_key, parse_age

    key, text = make_key(
        name,
        _scopes(scope or ["classify"]),
        expires_in=None if expires is None else parse_age(expires),
        rate=rate,
        quotas=Quotas(label_sets=label_sets, labels=labels, bytes_per_day=bytes_per_day, jobs=jobs),
    )
    with _store(data_dir) as store:
        store.create(key)
    typer.echo(text)
    typer.echo(f"key {key.id} was made; it is not shown again", err=True)


@app.command("list")
def list_keys(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a key.")] = False,
    data_dir: DataDir = None,
) -> None:
    """Print all keys: ids and facts, nothing secret."""
    with _store(data_dir) as store:
        keys = store.list()
    if as_json:
        for key in keys:
            typer.echo(json.dumps(_facts(key)))
        return
    for key in keys:
        typer.echo("  ".join(_words(key)))


@app.command()
def revoke(
    key_id: Annotated[str, typer.Argument(metavar="ID", help="Id of the key, as `ahse keys list` shows it.")],
    data_dir: DataDir = None,
) -> None:
    """Delete a key; requests with it are refused within a second."""
    with _store(data_dir) as store:
        key = store.revoke(key_id)
    typer.echo(f"key {key.id} ({key.name}) was revoked", err=True)


@contextlib.contextmanager
def _store(data_dir: Path | None) -> Iterator[KeyStore]:
    from service.cli.serve import read_settings
    from service.stores import Stores

    settings = read_settings({} if data_dir is None else {"data_dir": data_dir})
    with contextlib.closing(Stores(settings)) as stores, contextlib.closing(stores.keys()) as store:
        yield store


def _scopes(given: list[str]) -> frozenset[Scope]:
    from service.access.keys import SCOPES
    from service.errors import InvalidOptionError

    for one in given:
        if one not in SCOPES:
            raise InvalidOptionError(f"{one[:40]!r} is no scope; the scopes are: {', '.join(SCOPES)}")
    return frozenset(scope for scope in SCOPES if scope in given)


def _facts(key: ApiKey) -> dict[str, object]:
    return {
        "id": key.id,
        "name": key.name,
        "scopes": sorted(key.scopes),
        "created": key.created.isoformat(),
        "expires": None if key.expires is None else key.expires.isoformat(),
        "rate": key.rate,
        **vars(key.quotas),
    }


def _words(key: ApiKey) -> Iterator[str]:
    yield key.id
    yield ",".join(sorted(key.scopes)).ljust(21)
    yield f"created {key.created:%Y-%m-%d}"
    yield "expires never     " if key.expires is None else f"expires {key.expires:%Y-%m-%d}"
    yield repr(key.name)
    limits = {"rate": key.rate, **vars(key.quotas)}
    yield from (f"{name} {value}" for name, value in limits.items() if value is not None)
