"""`ahse store`: the database that replicas of the service share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli.command_app import CommandApp

if TYPE_CHECKING:
    from service.settings import Settings

app = CommandApp(no_args_is_help=True)


@app.callback()
def _root() -> None:
    """Set up the database that replicas share (AHSE_STORE)."""


@app.command("upgrade")
def upgrade_store() -> None:
    """Make the tables, or bring those of an older version up to date: all of it or nothing."""
    _, url = _settings()
    from service.postgres.upgrade import upgrade

    before, after = upgrade(url)
    if before == after:
        typer.echo(f"the store has version {after} already", err=True)
    else:
        typer.echo(f"the store was brought from {before or 'nothing'} to version {after}", err=True)


@app.command("import")
def import_store(
    data_dir: Annotated[Path | None, typer.Option(help="Data directory with the files.")] = None,
) -> None:
    """Bring in the label sets and API keys of a service that kept them in files: all of them or none.

    What is there already is left as it is. Embeddings are made anew when they are needed. Jobs stay behind.
    """
    settings, url = _settings(data_dir)
    from service.cli.store_import import import_files, n_unfinished_jobs

    sets, keys = import_files(url, settings)
    typer.echo(
        f"imported {sets.n_new} label sets and {keys.n_new} API keys; {sets.n_known} and {keys.n_known} were "
        "there already",
        err=True,
    )
    if n_unfinished := n_unfinished_jobs(settings):
        typer.echo(
            f"jobs stay behind, and {n_unfinished} have not ended: let them end before a service with "
            "AHSE_STORE starts on this data directory, since it deletes their clips",
            err=True,
        )


def _settings(data_dir: Path | None = None) -> tuple[Settings, str]:
    """The settings, and the URL of the store."""
    from service.cli.serve import read_settings
    from service.errors import SettingsError

    settings = read_settings({} if data_dir is None else {"data_dir": data_dir})
    if settings.store is None:
        raise SettingsError(
            "AHSE_STORE is not set; set it to postgresql://USER:PASSWORD@HOST/DATABASE. The files of a data "
            "directory need no upgrade"
        )
    return settings, settings.store.get_secret_value()
