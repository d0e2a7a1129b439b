"""The command `ahse`: a table of its commands, each imported when it is called."""

from __future__ import annotations

import importlib
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from service import __version__
from service.cli.command_app import CommandApp
from service.cli.interrupts import exiting_at_once

# Name: where its typer app is, and its line in `ahse --help`.
_TRAINING = "model_export.cli"
_COMMANDS = {
    "serve": ("service.cli.serve:app", "Serve over HTTP until interrupted."),
    "classify": ("service.cli.rank_clips:app", "Rank candidate names for each clip."),
    "bulk": ("service.cli.bulk.commands:app", "Label clips by the million, in shards."),
    "labels": ("service.cli.label_sets:app", "Read and change label sets."),
    "info": ("service.cli.info:app", "Show what is installed here, or what a service runs."),
    "bundle": ("service.cli.bundle:app", "Look into bundles."),
    "store": ("service.cli.store:app", "Set up the database that replicas share."),
    "keys": ("service.cli.keys:app", "Make, list and revoke API keys."),
    "extract": (f"{_TRAINING}.clip_commands:extract_app", "Turn your own clips into features to train on."),
    "calibrate": (
        f"{_TRAINING}.clip_commands:calibrate_app",
        "Fit a bundle without a trained head to clips.",
    ),
    "train": (f"{_TRAINING}.train_commands:train_app", "Train a head on a data set."),
    "evaluate": (f"{_TRAINING}.train_commands:evaluate_app", "Measure trained heads on the test clips."),
    "report": (f"{_TRAINING}.train_commands:report_app", "Show evaluated runs, as HTML and pictures."),
    "export": (f"{_TRAINING}.export_commands:app", "Write bundles: encoders, or a trained head beside them."),
    "dataset": (f"{_TRAINING}.dataset_commands:app", "Check, simulate and pack data sets."),
}


class _Commands(TyperGroup):
    """The commands of the table. Help and completion of their names import none of them.

    Contexts and formatters are of the click inside typer, whose types it does not export.
    """

    def list_commands(self, ctx: Any) -> list[str]:
        """In the order of the table."""
        del ctx
        return list(_COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Import one command."""
        del ctx
        if cmd_name not in _COMMANDS:
            return None
        module, _, attribute = _COMMANDS[cmd_name][0].partition(":")
        with exiting_at_once():
            found = importlib.import_module(module)
        command = typer.main.get_command(getattr(found, attribute))
        command.name = cmd_name
        return command

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the table."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in _COMMANDS.items()])


app = CommandApp(cls=_Commands, no_args_is_help=True, add_completion=True)


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    """Which of these names fits this clip best? Audio-visual zero-shot classification."""
    if version:
        typer.echo(f"ahse {__version__}")
        raise typer.Exit
