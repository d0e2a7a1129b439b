"""`ahse evaluate`: measure finished runs on the test clips."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from model_export.cli.app import TrainingApp
from model_export.cli.source import open_dataset
from model_export.data.features import GzslData
from model_export.errors import RunError
from model_export.head.run import Run
from model_export.report.measured import measure
from model_export.report.summary import methods
from model_export.report.tables import evaluation_document, evaluation_text

app = TrainingApp()


@app.command()
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
    runs = [Run.load(path) for path in paths if (path / "config.json").is_file()]
    sources = [path for path in paths if not (path / "config.json").is_file()]
    if not runs or not sources:
        raise typer.BadParameter("name at least one run folder and the data set that it was trained on")
    data = {
        d.fingerprint(): d for d in (open_dataset(p, legacy_text_order=legacy_text_order) for p in sources)
    }
    found = methods([measure(run, _own(run, data)) for run in runs])
    if as_json:
        typer.echo(json.dumps(evaluation_document(found), indent=2))
    else:
        typer.echo(evaluation_text(found))


def _own(run: Run, data: dict[str, GzslData]) -> GzslData:
    """The data set that the run was trained on.

    Raises:
        RunError: it is none of the given ones.
    """
    identity = run.config.data
    if identity.fingerprint in data:
        return data[identity.fingerprint]
    made_by = ", ".join(sorted({repr(d.encoders) for d in data.values()}))
    raise RunError(
        f"{run.path} was trained on other data (the run: {identity.name}, encoders {identity.encoders!r}; "
        f"given: encoders {made_by})"
    )
