"""`ahse train`, `ahse evaluate` and `ahse report`: from a data set to a measured head."""

from __future__ import annotations

import json
import sys
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from model_export.errors import RunError
from service.cli.command_app import CommandApp

if TYPE_CHECKING:
    from model_export.data.gzsl_data import GzslData
    from model_export.head.head_config import HeadConfig
    from model_export.head.run_folder import Run

train_app = CommandApp()
evaluate_app = CommandApp()
report_app = CommandApp()


# Above this chance of random texts to do as well, those of a data set are called doubtful.
_DOUBTFUL = 0.05


class Preset(StrEnum):
    """Names of the presets."""

    AHSE = "ahse"
    AHSE_PAPER = "ahse_paper"
    AVCA = "avca"
    AVGZSLNET = "avgzslnet"
    CJME = "cjme"
    CLIP_CLAP = "clip_clap"
    EZ_AVOOD = "ez_avood"
    HSP_MOE = "hsp_moe"
    HYPER_MULTIPLE = "hyper_multiple"


@train_app.command()
def train(
    dataset: Annotated[
        Path, typer.Argument(help="Folder in the published layout, or feature file.", metavar="DATASET")
    ],
    out: Annotated[
        Path, typer.Option(help="Run folder; an unfinished run with the same settings is continued.")
    ],
    preset: Annotated[Preset, typer.Option(help="Settings to start from.")] = Preset.AHSE,
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", help="Change a setting, as in --set lr=3e-4.", metavar="KEY=VALUE"),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of initialisation, sampling and dropout.")] = 42,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    threads: Annotated[int | None, typer.Option(min=1, help="Of torch; by the size of a step.")] = None,
    legacy_text_order: Annotated[
        bool, typer.Option("--legacy-text-order", help="Mix up class texts as the published runs did.")
    ] = False,
) -> None:
    """Train by the two-stage protocol; all that can be chosen is chosen on validation."""
    from model_export.data.datasets import open_dataset
    from model_export.head import training
    from model_export.progress import progress_bars

    config = configure(preset.value, changes or [], seed)
    data = open_dataset(dataset, legacy_text_order=legacy_text_order)
    with progress_bars(["stage 1", "stage 2"], show=sys.stderr.isatty()) as bars:
        run = training.train(data, config, out, device=device, n_threads=threads, report=bars)
    c, name = run.calibration, f"{'SIMULATED ' if data.simulated else ''}{data.name}"
    figures = f"validation HM {c.harmonic_mean:.2f}, ZSL {c.zsl:.2f}, beta {c.beta:.2f}, "
    typer.echo(
        f"{out}: {name}, {figures if c.certificate else ''}weight of the raw features {c.raw_weight:.2f}"
    )
    if c.certificate is None:
        typer.echo("what the head brings was not measured: validation lacks clips with both tracks")
    else:
        typer.echo(c.certificate.in_words)
        if c.certificate.text_p > _DOUBTFUL:
            typer.echo(
                "the class texts can't be told from texts dealt at random by the validation clips "
                f"(p = {c.certificate.text_p:.2f}): too few clips, or rows in another order"
            )
    typer.echo(f"next: ahse evaluate {out} {dataset}")


def configure(preset: str, changes: list[str], seed: int) -> HeadConfig:
    """A preset with some settings changed.

    Raises:
        RunError: A change is not KEY=VALUE, or names no setting, or has a value that the setting can't have;
            or it is of the seed.
    """
    from pydantic import ValidationError

    from model_export.head.head_config import PRESETS, HeadConfig
    from service.faults import describe_faults

    pairs = {key.strip(): value.strip() for key, _, value in (one.partition("=") for one in changes)}
    if "seed" in pairs:
        raise RunError("--set: the seed has an option of its own, --seed")
    settings = PRESETS[preset].model_dump() | pairs
    try:
        return HeadConfig.model_validate(settings | {"seed": seed})
    except ValidationError as error:
        faults = describe_faults(error.errors(), "the settings")
        raise RunError(f"--set: {faults}; there are {', '.join(HeadConfig.model_fields)}") from None


@evaluate_app.command()
def evaluate(
    paths: Annotated[
        list[Path],
        typer.Argument(
            help="Run folders, then the data sets that they were trained on.", metavar="RUN... DATASET..."
        ),
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print everything that was measured.")] = False,
    legacy_text_order: Annotated[
        bool, typer.Option("--legacy-text-order", help="The runs were trained with it.")
    ] = False,
) -> None:
    """Measure runs; several of one method are shown as mean and standard deviation over their seeds.

    Results are kept in each run folder, where `ahse report` finds them.
    """
    from model_export.data.datasets import open_dataset
    from model_export.head.run_folder import Run
    from model_export.report.measurements import measure
    from model_export.report.tables import by_data, evaluation_document, evaluation_text

    runs = [Run.load(path) for path in paths if (path / "config.json").is_file()]
    sources = [path for path in paths if not (path / "config.json").is_file()]
    if not runs or not sources:
        raise typer.BadParameter("name at least one run folder and the data set that it was trained on")
    data = {
        d.fingerprint(): d for d in (open_dataset(p, legacy_text_order=legacy_text_order) for p in sources)
    }
    found = by_data([measure(run, _own_data(run, data)) for run in runs])
    if as_json:
        typer.echo(json.dumps([evaluation_document(group) for group in found], indent=2))
    else:
        typer.echo("\n\n".join(evaluation_text(group) for group in found))


def _own_data(run: Run, data: dict[str, GzslData]) -> GzslData:
    """The data set, by fingerprint, that the run was trained on.

    Raises:
        RunError: None of the given ones.
    """
    identity = run.config.data
    if identity.fingerprint in data:
        return data[identity.fingerprint]
    made_by = ", ".join(sorted({repr(d.encoders) for d in data.values()}))
    raise RunError(
        f"{run.path} was trained on other data (the run: {identity.name}, encoders {identity.encoders!r}; "
        f"given: encoders {made_by})"
    )


@report_app.command()
def report(
    out: Annotated[
        Path, typer.Option(help="Folder for report.html, report.md, report.json and the pictures.")
    ],
    runs: Annotated[
        list[Path] | None, typer.Argument(help="Run folders that were evaluated.", metavar="RUN...")
    ] = None,
    table1: Annotated[
        Path | None,
        typer.Option(
            help="Train and measure the methods of the paper's Table I on this data set, in place of runs; "
            "a stopped comparison goes on.",
            metavar="DATASET",
        ),
    ] = None,
    rows: Annotated[
        list[str] | None, typer.Option("--row", help="Of Table I: only this preset; repeat for several.")
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Of Table I: how many, from 0 on.")] = 5,
    batches: Annotated[
        int | None,
        typer.Option(min=1, help="Of Table I: batches in an epoch of every row; fewer take less time."),
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Of torch; by the size of a step.")] = None,
    legacy_text_order: Annotated[
        bool, typer.Option("--legacy-text-order", help="Mix up class texts as the published runs did.")
    ] = False,
) -> None:
    """Write one self-contained HTML page with tables and pictures, and the same as Markdown, JSON and PNG."""
    from model_export.data.datasets import open_dataset
    from model_export.progress import progress_bars
    from model_export.report.measurements import MeasuredRun
    from model_export.report.report_files import write_report
    from model_export.report.table_one import ROWS, Plan, Report, compare

    if (table1 is None) == (not runs):
        raise typer.BadParameter("name run folders, or a data set with --table1")
    if unknown := sorted(set(rows or ()) - ROWS.keys()):
        raise typer.BadParameter(f"there is no row {unknown[0]!r}; there are {', '.join(ROWS)}")
    if table1 is None:
        write_report([MeasuredRun.load(run) for run in runs or ()], out)
    else:
        data = open_dataset(table1, legacy_text_order=legacy_text_order)
        with progress_bars(["tuning", "stage 1", "stage 2"], show=sys.stderr.isatty()) as bars:
            told = Report(partial(typer.echo, err=True), bars)
            compare(data, out, Plan(rows or list(ROWS), range(seeds), batches, threads), told)
    typer.echo(f"{out / 'report.html'}")
