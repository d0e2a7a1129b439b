"""`ahse export head`: a trained head beside the encoders that it was trained on, as one bundle."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from model_export.cli.target import check_target
from model_export.errors import RunError
from model_export.export.bundle import BundleFacts, export_bundle
from model_export.export.heads import trained_head
from model_export.export.reuse import encoders_of, head_licence
from model_export.head.run import Run
from model_export.report.card import data_name, metrics, model_card, unseen_classes
from model_export.report.measured import EVALUATION, MeasuredRun
from service.bundle.manifest import Manifest


def export_head(
    path: Annotated[Path, typer.Argument(help="Run folder of `ahse train`.", metavar="RUN")],
    encoders: Annotated[
        Path, typer.Option(help="Bundle whose encoders made the features; its own head is left behind.")
    ],
    out: Annotated[Path, typer.Option(help="Directory of the new bundle; must not exist.")],
    name: Annotated[
        str | None, typer.Option(help="By which requests choose it; default: that of the directory.")
    ] = None,
    description: Annotated[str | None, typer.Option(help="One sentence for people.")] = None,
    licence: Annotated[str, typer.Option(help="Of the head.")] = "not stated",
) -> None:
    """Write a bundle of a trained head and the encoders that it was trained on.

    What `ahse evaluate` measured of the run goes into the manifest and the model card.
    """
    check_target(out, name := name or out.resolve().name)
    run = Run.load(path)
    manifest, parts = encoders_of(encoders)
    _check_encoders(run, manifest, encoders)
    measured = MeasuredRun.load(path) if (path / EVALUATION).is_file() else None
    facts = BundleFacts(
        name=name,
        version="1",
        description=description
        or f"A head trained on {data_name(run)} beside the encoders of {manifest.name}.",
        unseen_classes=unseen_classes(measured) if measured else (),
        metrics=metrics(measured) if measured else (),
        command=f"ahse export head {path.resolve().name} --encoders {manifest.name} --out {out.name}",
        seed=run.config.head.seed,
        data=f"{data_name(run)}, features {run.config.data.fingerprint}; encoders of {manifest.name}",
        card=model_card(run, manifest, measured),
    )
    licences = (*parts.licences, head_licence(licence, data_name(run)))
    export_bundle(out, replace(parts, licences=licences), trained_head(run), facts)
    typer.echo(f"{out}: bundle {name}, {len(run.config.data.seen_classes)} seen classes")
    if measured is None:
        typer.echo("without figures: the run was not evaluated (ahse evaluate)", err=True)
    typer.echo(f"next: ahse serve --bundle {out}")


def _check_encoders(run: Run, manifest: Manifest, directory: Path) -> None:
    made_by, found = run.config.data.encoders, manifest.encoders_digest()
    if made_by != found:
        whose = f"by the encoders {made_by}" if made_by else "by encoders that nobody named"
        raise RunError(
            f"{run.path} was trained on features made {whose}; those of {directory} are {found}, and a head "
            "fits no others. Name the bundle that the features were extracted with"
        )
