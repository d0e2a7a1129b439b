"""`ahse export custom`: any pair of encoders that a function builds, as one bundle."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from model_export.cli.target import check_target
from model_export.encoders.custom import CustomBundle, load_builder, write_custom
from model_export.encoders.errors import EncoderError


def export_custom(
    function: Annotated[
        str,
        typer.Argument(
            help="Function that is given a folder to work in and returns a "
            "model_export.encoders.custom.CustomBundle.",
            metavar="MODULE:FUNCTION",
        ),
    ],
    out: Annotated[Path, typer.Option(help="Directory of the new bundle; must not exist.")],
    work: Annotated[Path, typer.Option(help="Folder for what the function fetches.")] = Path("build/custom"),
    name: Annotated[
        str | None, typer.Option(help="By which requests choose it; default: that of the directory.")
    ] = None,
) -> None:
    """Write a bundle of your own encoders; every graph is compared with its torch module."""
    check_target(out, name := name or out.resolve().name)
    sys.path.insert(0, str(Path.cwd()))  # as `python -m` has it
    built = load_builder(function)(work)
    if not isinstance(built, CustomBundle):
        raise EncoderError(f"{function} returned a {type(built).__name__}, not a CustomBundle")
    command = f"ahse export custom {function} --out {name}"
    write_custom(out, built, name, command, partial(typer.echo, err=True))
    typer.echo(f"{out}: bundle {name}")
    typer.echo(f"next: ahse serve --bundle {out}")
