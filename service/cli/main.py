"""The command `ahse` and what its commands share: errors end in one line and exit code 2."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from service import __version__
from service.cli import bundle, classify, serve, training
from service.errors import AhseError

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False)
app.command("serve")(serve.serve)
app.command("classify")(classify.classify)
app.add_typer(bundle.app, name="bundle", help="Look into bundles.")
training.register(app)


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    """Which of these names fits this clip best? Audio-visual zero-shot classification."""
    if version:
        typer.echo(f"ahse {__version__}")
        raise typer.Exit


def main() -> None:
    """Run the command line; an expected error is one line on stderr and exit code 2."""
    try:
        app()
    except AhseError as error:
        typer.echo(f"ahse: {error.message} [{error.code}]", err=True)
        if cause := _root_cause(error):
            typer.echo(f"cause: {cause}", err=True)
        sys.exit(2)


def _root_cause(error: BaseException) -> str:
    """What a library said: of use to who sits at this terminal, never sent to a client."""
    root = error
    while root.__cause__ is not None:
        root = root.__cause__
    return "" if isinstance(root, AhseError) else f"{type(root).__name__}: {root}"
