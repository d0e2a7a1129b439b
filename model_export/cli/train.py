"""`ahse train`: train a head on a data set and write a run folder."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError

from model_export.cli.app import TrainingApp
from model_export.cli.source import open_dataset
from model_export.errors import RunError
from model_export.head.config import PRESETS, HeadConfig
from model_export.head.train import train as train_head

app = TrainingApp()


class Preset(StrEnum):
    """Names of the presets."""

    AHSE = "ahse"
    AHSE_PAPER = "ahse_paper"
    BASELINE = "baseline"


@app.command()
def train(
    dataset: Annotated[
        Path,
        typer.Argument(
            help="Folder in the published layout, or feature file.",
            metavar="DATASET",
        ),
    ],
    out: Annotated[Path, typer.Option(help="Run folder; an unfinished run of the same settings goes on.")],
    preset: Annotated[Preset, typer.Option(help="What to start from.")] = Preset.AHSE,
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", help="Change a setting, as in --set lr=3e-4.", metavar="KEY=VALUE"),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of initialisation, sampling and dropout.")] = 42,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    threads: Annotated[int | None, typer.Option(min=1, help="Of torch; its own choice by default.")] = None,
    legacy_text_order: Annotated[
        bool, typer.Option("--legacy-text-order", help="Mix up class texts as the published runs did.")
    ] = False,
) -> None:
    """Train by the two-stage protocol; all that can be chosen is chosen on validation."""
    config = configure(preset.value, changes or [], seed)
    data = open_dataset(dataset, legacy_text_order=legacy_text_order)
    run = train_head(data, config, out, device=device, n_threads=threads, show_progress=sys.stderr.isatty())
    c, name = run.calibration, f"{'SIMULATED ' if data.simulated else ''}{data.name}"
    typer.echo(
        f"{out}: {name}, validation HM {c.harmonic_mean:.2f}, ZSL {c.zsl:.2f}, beta {c.beta:.2f}, "
        f"weight of the raw features {c.raw_weight:.2f}"
    )
    typer.echo(f"next: ahse evaluate {out} {dataset}")


def configure(preset: str, changes: list[str], seed: int) -> HeadConfig:
    """A preset with some settings changed.

    Raises:
        RunError: a change is no KEY=VALUE, or no setting takes it.
    """
    pairs = dict(change.partition("=")[::2] for change in changes)
    settings = PRESETS[preset].model_dump() | {key.strip(): value.strip() for key, value in pairs.items()}
    try:
        return HeadConfig.model_validate(settings | {"seed": seed})
    except ValidationError as error:
        wrong = "; ".join(f"{e['loc'][0]}: {e['msg']}" for e in error.errors())
        raise RunError(f"--set {wrong}; there are {', '.join(HeadConfig.model_fields)}") from None
