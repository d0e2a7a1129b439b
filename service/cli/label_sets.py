"""`ahse labels`: read and change label sets, of the data directory here or of a running service."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service import option_texts as texts
from service.cli.answer_text import json_line
from service.cli.command_app import CommandApp
from service.cli.connection import Key, Url, connected, refuse_key_without_url
from service.cli.interrupts import exiting_at_once
from service.cli.names import LabelsFile, as_file, read_names
from service.errors import InvalidOptionError

if TYPE_CHECKING:
    from service.cli.local_label_sets import LocalLabelSets
    from service.client import Client

app = CommandApp(no_args_is_help=True)
Name = Annotated[str, typer.Argument(metavar="SET", help="Name of the label set.")]
Names = Annotated[list[str] | None, typer.Argument(metavar="LABEL...", help="Names.")]
DataDir = Annotated[
    Path | None, typer.Option(help="Data directory of the service, where --url is not given.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
IfMatch = Annotated[
    str | None,
    typer.Option(
        help="Only if the set still has this ETag, as `ahse labels get --json` shows it.", metavar="ETAG"
    ),
]

Warm = Annotated[
    bool,
    typer.Option(
        "--warm", help="Let the service of --url embed new names at once, so that the next request need not."
    ),
]


@app.callback()
def _root() -> None:
    """Read and change label sets: of a service with --url, else of the data directory here.

    A service that runs on that directory sees a change at its next request.
    """


@app.command("ls")
def list_sets(as_json: Json = False, url: Url = None, key: Key = None, data_dir: DataDir = None) -> None:
    """List all label sets."""
    with _label_sets(url, key, data_dir) as store:
        for one in store.label_sets():
            if as_json:
                typer.echo(json_line(one.as_document()))
            else:
                typer.echo(f"{one.name}  {one.n_labels} labels  changed {one.updated:%Y-%m-%d %H:%M}")


@app.command()
def get(
    name: Name, as_json: Json = False, url: Url = None, key: Key = None, data_dir: DataDir = None
) -> None:
    """Print the names of a set as --labels-file reads them, one a line if it can; with --json all of it."""
    with _label_sets(url, key, data_dir) as store:
        label_set = store.label_set(name)
    if as_json:
        typer.echo(json_line(label_set.as_document()))
    else:
        typer.echo(as_file([label.name for label in label_set.labels]), nl=False)


@app.command()
def put(
    name: Name,
    labels: Names = None,
    labels_file: LabelsFile = None,
    template: Annotated[
        list[str] | None, typer.Option(help=f"{texts.TEMPLATES.description} Repeat for several.")
    ] = None,
    guarantee: Annotated[
        float | None,
        typer.Option(
            help="Guarantee of requests with the set that have none of their own.",
            min=texts.MIN_GUARANTEE,
            max=texts.MAX_GUARANTEE,
        ),
    ] = None,
    if_match: IfMatch = None,
    warm: Warm = False,
    url: Url = None,
    key: Key = None,
    data_dir: DataDir = None,
) -> None:
    """Make a set of these names, or replace all of one."""
    given = read_names(labels, labels_file)
    if not given and labels_file is None:
        raise InvalidOptionError("no names were given; to delete the set: ahse labels rm SET --all")
    with _label_sets(url, key, data_dir) as store:
        label_set = store.put_label_set(
            name, given, templates=template or None, guarantee=guarantee, if_match=if_match, warm=warm
        )
    _tell(name, label_set.n_labels)


@app.command()
def add(
    name: Name,
    labels: Names = None,
    labels_file: LabelsFile = None,
    if_match: IfMatch = None,
    warm: Warm = False,
    url: Url = None,
    key: Key = None,
    data_dir: DataDir = None,
) -> None:
    """Add names to a set; those that it has change nothing."""
    given = read_names(labels, labels_file)
    if not given:
        raise InvalidOptionError("no names were given to add")
    with _label_sets(url, key, data_dir) as store:
        label_set = store.add_labels(name, given, if_match=if_match, warm=warm)
    _tell(name, label_set.n_labels)


@app.command("rm")
def remove(
    name: Name,
    labels: Names = None,
    whole: Annotated[bool, typer.Option("--all", help="Delete the set itself.")] = False,
    if_match: IfMatch = None,
    url: Url = None,
    key: Key = None,
    data_dir: DataDir = None,
) -> None:
    """Take names out of a set, or delete all of it."""
    if bool(labels) == whole:
        raise InvalidOptionError("give either the names to take out, or --all to delete the set")
    with _label_sets(url, key, data_dir) as store:
        if whole:
            store.delete_label_set(name, if_match=if_match)
            typer.echo(f"label set {name} was deleted", err=True)
            return
        for label in labels or ():
            label_set = store.remove_label(name, label, if_match=if_match)
            if_match = None if if_match is None else label_set.etag
    _tell(name, label_set.n_labels)


def _tell(name: str, n_labels: int) -> None:
    typer.echo(f"label set {name} has {n_labels} labels", err=True)


@contextlib.contextmanager
def _label_sets(url: str | None, key: str | None, data_dir: Path | None) -> Iterator[Client | LocalLabelSets]:
    refuse_key_without_url(url, key)
    if url is not None and data_dir is not None:
        raise InvalidOptionError("give either --url or --data-dir")
    # A change is made whole or not at all, wherever it is interrupted.
    with exiting_at_once(), _opened(url, key, data_dir) as store:
        yield store


@contextlib.contextmanager
def _opened(url: str | None, key: str | None, data_dir: Path | None) -> Iterator[Client | LocalLabelSets]:
    if url is not None:
        with connected(url, key) as client:
            yield client
        return
    from service.cli.local_label_sets import LocalLabelSets
    from service.cli.serve import read_settings

    settings = read_settings({} if data_dir is None else {"data_dir": data_dir})
    with contextlib.closing(LocalLabelSets(settings)) as store:
        yield store
