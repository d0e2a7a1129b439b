"""`ahse store`: the database that replicas of the service share."""

from __future__ import annotations

import typer

from service.cli.command_app import CommandApp

app = CommandApp(no_args_is_help=True)


@app.callback()
def _root() -> None:
    """Set up the database that replicas share (AHSE_STORE)."""


@app.command("upgrade")
def upgrade_store() -> None:
    """Make the tables, or bring those of an older version up to date: all of it or nothing."""
    from service.cli.serve import read_settings
    from service.errors import SettingsError

    url = read_settings({}).store
    if url is None:
        raise SettingsError(
            "AHSE_STORE is not set; set it to postgresql://USER:PASSWORD@HOST/DATABASE. The files of a data "
            "directory need no upgrade"
        )
    from service.postgres.upgrade import upgrade

    before, after = upgrade(url.get_secret_value())
    if before == after:
        typer.echo(f"the store has version {after} already", err=True)
    else:
        typer.echo(f"the store was brought from {before or 'nothing'} to version {after}", err=True)
