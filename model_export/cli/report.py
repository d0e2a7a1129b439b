"""`ahse report`: show evaluated runs beside each other and beside the published numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from model_export.cli.app import TrainingApp
from model_export.report.measured import MeasuredRun
from model_export.report.write import write_report

app = TrainingApp()


@app.command()
def report(
    runs: Annotated[list[Path], typer.Argument(help="Run folders that were evaluated.", metavar="RUN...")],
    out: Annotated[
        Path, typer.Option(help="Folder for report.html, report.md, report.json and the pictures.")
    ],
) -> None:
    """Write one self-contained HTML page with tables and pictures, and the same as Markdown, JSON and PNG."""
    write_report([MeasuredRun.load(run) for run in runs], out)
    typer.echo(f"{out / 'report.html'}")
