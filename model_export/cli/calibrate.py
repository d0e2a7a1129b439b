"""`ahse calibrate`: fit the statistics of a bundle without a trained head on unlabelled clips."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from model_export.cli.app import TrainingApp
from model_export.cli.extract import extract_with_progress, say_found
from model_export.errors import DatasetError, Problem
from model_export.export.heads import STATISTICS_FILE
from model_export.export.refit import write_refitted
from model_export.extract.journal import Journal
from model_export.extract.moments import fit, list_unlabelled
from service.bundle.bundle import load_bundle
from service.bundle.heads import LoadedSimilarity
from service.cli.serve import read_settings
from service.processors import n_processors

app = TrainingApp()


@app.command()
def calibrate(
    bundle: Annotated[Path, typer.Argument(help="Bundle whose head is `similarity`.", metavar="BUNDLE")],
    clips: Annotated[
        Path, typer.Argument(help="Folder of clips like those to come; no labels needed.", metavar="CLIPS")
    ],
    out: Annotated[
        Path | None, typer.Option(help="Directory of the new bundle; default: BUNDLE itself is replaced.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
) -> None:
    """Take mean and covariance of the clips' features, so that similarity to any name can be standardised.

    A name that is similar to every clip then wins nothing by it. An attempt that was stopped goes on with
    the same command.
    """
    if out is not None and out.exists():
        raise DatasetError(out, [Problem(str(out), "exists already; choose another directory or remove it")])
    settings, target = read_settings({"device": device}), out or bundle
    loaded, listing = load_bundle(bundle, settings.runtime(n_processors())), list_unlabelled(clips)
    head, manifest = loaded.head, loaded.manifest
    if not isinstance(head, LoadedSimilarity):
        what = "has a trained head, whose statistics come from training; only similarity heads are calibrated"
        raise DatasetError(bundle, [Problem(manifest.name, what)])
    target.resolve().parent.mkdir(parents=True, exist_ok=True)
    kept = target.resolve().with_name(f".{target.resolve().name}.journal")
    with Journal(kept, manifest.encoders_digest()) as journal:
        found = extract_with_progress(listing, loaded, journal, settings)
        say_found(found)
        statistics = fit(found.features, clips)
        # Fitted scores were for similarity on another scale.
        update = {"statistics": STATISTICS_FILE, "n_clips": len(found.clips), "scores": None}
        fitted = head.facts.model_copy(update=update)
        command = f"ahse calibrate {manifest.name} ({len(found.clips)} clips)"
        write_refitted(bundle, manifest, target, fitted, statistics, command)
        journal.remove()
    typer.echo(f"{target}: similarity is standardised by {len(found.clips)} clips")
    typer.echo(f"next: ahse serve --bundle {target}")
