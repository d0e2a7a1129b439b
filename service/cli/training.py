"""Commands of model_export, reached through `ahse` and imported only when called: they need torch."""

from __future__ import annotations

import importlib
from typing import Any

import typer

# Name: where its typer app is, and its line in `ahse --help`.
_COMMANDS = {
    "extract": ("model_export.cli.extract:app", "Turn your own clips into features to train on."),
    "calibrate": ("model_export.cli.calibrate:app", "Fit a bundle without a trained head to your clips."),
    "train": ("model_export.cli.train:app", "Train a head on a data set."),
    "evaluate": ("model_export.cli.evaluate:app", "Measure trained heads on the test clips."),
    "report": ("model_export.cli.report:app", "Show evaluated runs beside each other, as HTML and pictures."),
    "export": ("model_export.cli.export:app", "Write bundles: encoders, or a trained head beside them."),
    "dataset": ("model_export.cli.dataset:app", "Check, simulate and pack data sets."),
}
# Whatever follows the name, --help too, is for the command itself.
_PASS_ON = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


def register(app: typer.Typer) -> None:
    """Give the command line a door to each command of model_export."""
    for name, (where, summary) in _COMMANDS.items():
        _door(app, name, where, summary)


def _door(app: typer.Typer, name: str, where: str, summary: str) -> None:
    @app.command(name, help=summary, context_settings=_PASS_ON, add_help_option=False)
    def door(context: typer.Context) -> None:
        module, _, attribute = where.partition(":")
        try:
            command: Any = getattr(importlib.import_module(module), attribute)
            command(args=context.args, prog_name=f"ahse {name}")
        except ModuleNotFoundError as error:
            typer.echo(
                f"ahse {name} needs the training packages, and {error.name} is not installed. "
                "Install them with: pip install 'ahse[cpu,export]'",
                err=True,
            )
            raise typer.Exit(2) from None
