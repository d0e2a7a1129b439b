"""`ahse export`: write bundles of real encoders, of a user's own, or of a trained head beside encoders."""

from __future__ import annotations

import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from model_export.cli.export_clip_clap import export_clip_clap
from model_export.cli.shared_options import BundleName, check_new_bundle, command_of
from model_export.errors import EncoderError, RunError
from service.cli.command_app import CommandApp

if TYPE_CHECKING:
    from model_export.head.run_folder import Run
    from service.bundle.manifest import Manifest

_WORK: Final = Path("build/custom")
_LICENCE: Final = "not stated"
_UNGATED = "For comparing methods: this head ranks whether or not it does better than the encoders alone."
app = CommandApp(no_args_is_help=True)
app.command("clip-clap")(export_clip_clap)


@app.command("custom")
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
    work: Annotated[Path, typer.Option(help="Folder for what the function fetches.")] = _WORK,
    name: BundleName = None,
) -> None:
    """Write a bundle of your own encoders; every graph is compared with its torch module."""
    from model_export.encoders.custom import CustomBundle, load_builder, write_custom

    check_new_bundle(out, name := name or out.resolve().name)
    sys.path.insert(0, str(Path.cwd()))  # as with `python -m`
    built = load_builder(function)(work)
    if not isinstance(built, CustomBundle):
        raise EncoderError(f"{function} returned a {type(built).__name__}, not a CustomBundle")
    options = {"--work": None if work == _WORK else work.name}
    command = command_of(["ahse", "export", "custom", function], options, name, out)
    write_custom(out, built, name, command, partial(typer.echo, err=True))
    typer.echo(f"{out}: bundle {name}")
    typer.echo(f"next: ahse serve --bundle {out}")


@app.command("head")
def export_head(
    path: Annotated[Path, typer.Argument(help="Run folder of `ahse train`.", metavar="RUN")],
    encoders: Annotated[
        Path, typer.Option(help="Bundle whose encoders made the features; its own head is left behind.")
    ],
    out: Annotated[Path, typer.Option(help="Directory of the new bundle; must not exist.")],
    name: BundleName = None,
    description: Annotated[str | None, typer.Option(help="One sentence about the bundle.")] = None,
    licence: Annotated[str, typer.Option(help="Licence of the head.")] = _LICENCE,
    ungated: Annotated[
        bool,
        typer.Option("--ungated", help="Export a head that may rank worse than the encoders alone."),
    ] = False,
) -> None:
    """Write a bundle of a trained head and the encoders that it was trained on.

    What `ahse evaluate` measured of the run goes into the manifest and the model card.
    """
    from model_export.export.bundle_parts import BundleFacts, export_bundle
    from model_export.export.existing_bundle import encoders_of, head_licence
    from model_export.export.head_parts import trained_head
    from model_export.head.run_folder import Run
    from model_export.report.head_card import data_name, metrics, model_card, unseen_classes
    from model_export.report.measurements import EVALUATION, MeasuredRun

    check_new_bundle(out, name := name or out.resolve().name)
    run = Run.load(path)
    head = trained_head(run, ungated=ungated)
    manifest, parts = encoders_of(encoders)
    _check_encoders(run, manifest, encoders)
    command = command_of(
        ["ahse", "export", "head", path.resolve().name],
        {
            "--encoders": manifest.name,
            "--description": description,
            "--licence": None if licence == _LICENCE else licence,
            "--ungated": ungated,
        },
        name,
        out,
    )
    measured = MeasuredRun.load(path) if (path / EVALUATION).is_file() else None
    facts = BundleFacts(
        name=name,
        version="1",
        description=description
        or f"A head trained on {data_name(run)} beside the encoders of {manifest.name}.",
        unseen_classes=unseen_classes(measured) if measured else (),
        metrics=metrics(measured) if measured else (),
        command=command,
        seed=run.config.head.seed,
        data=f"{data_name(run)}, features {run.config.data.fingerprint}; encoders of {manifest.name}",
        card=model_card(run, manifest, measured),
        notice=_UNGATED if ungated else None,
    )
    licences = (*parts.licences, head_licence(licence, data_name(run)))
    export_bundle(out, replace(parts, licences=licences), head, facts)
    typer.echo(f"{out}: bundle {name}, {len(run.config.data.seen_classes)} seen classes")
    if measured is None:
        typer.echo("without figures: the run was not evaluated (ahse evaluate)", err=True)
    typer.echo(f"next: ahse serve --bundle {out}")


def _check_encoders(run: Run, manifest: Manifest, directory: Path) -> None:
    made_by, found = run.config.data.encoders, manifest.encoders_digest()
    if made_by != found:
        whose = f"by the encoders {made_by}" if made_by else "by encoders that are not named"
        raise RunError(
            f"{run.path} was trained on features made {whose}; those of {directory} are {found}, and a head "
            "fits no others. Name the bundle that the features were extracted with"
        )
