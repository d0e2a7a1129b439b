"""`ahse bundle`: look into bundles and check them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli.command_app import CommandApp

if TYPE_CHECKING:
    from service.bundle.head_specs import AhseSpec, SimilaritySpec
    from service.bundle.provenance import Source

app = CommandApp(no_args_is_help=True)
Directory = Annotated[Path, typer.Argument(help="Bundle directory.", metavar="BUNDLE")]


@app.callback()
def _root() -> None:
    """Look into bundles."""


@app.command()
def inspect(
    directory: Directory,
    as_json: Annotated[bool, typer.Option("--json", help="Print the whole manifest.")] = False,
) -> None:
    """Print what a bundle is: its dims, rates, templates, metrics and where it comes from."""
    from service.bundle.directory import named_by_path, read_manifest

    with named_by_path(directory):
        manifest = read_manifest(directory)
    if as_json:
        typer.echo(manifest.model_dump_json(indent=2))
        return
    visual, audio = manifest.visual, manifest.audio
    typer.echo(f"{manifest.name} {manifest.version}: {manifest.description}")
    if manifest.notice:
        typer.echo(f"notice  {manifest.notice}")
    typer.echo(
        f"visual  {visual.n_frames} frames of {visual.image_size_px} px ({visual.sampling}) -> {visual.dim}"
    )
    typer.echo(f"audio   {audio.window_s} s windows at {audio.sample_rate_hz} Hz -> {audio.dim}")
    typer.echo(f"head    {_head(manifest.head)}")
    for line in _certificates(manifest.head):
        typer.echo(f"gain    {line}")
    typer.echo(f"classes {len(manifest.seen_classes)} seen, {len(manifest.unseen_classes)} unseen")
    typer.echo(f"digest  of the encoders {manifest.encoders_digest()}")
    for metric in manifest.metrics:
        typer.echo(f"metric  {metric.name} {metric.value:.2f} {metric.unit} on {metric.data}")
    for source in manifest.provenance.sources:
        typer.echo(f"source  {_source(source)}")
    for licence in manifest.licences:
        typer.echo(f"licence {licence.part}: {licence.licence} ({licence.source})")
    typer.echo(f"made    {manifest.provenance.created.isoformat()} by: {manifest.provenance.command}")


def _head(head: AhseSpec | SimilaritySpec) -> str:
    if head.kind == "ahse":
        return f"ahse, {head.dim} dims, {head.standardisation}, beta {head.calibrations.both.beta:g}"
    fitted = f"statistics of {head.n_clips} clips" if head.n_clips else "not standardised: no clips yet"
    scores = "fitted scores" if head.scores else "the encoders' own scores"
    return f"similarity, {fitted}, {scores}, share of the picture {head.visual_share:g}"


def _certificates(head: AhseSpec | SimilaritySpec) -> Iterator[str]:
    """What a trained head brings, for each set of tracks."""
    if head.kind != "ahse":
        return
    for tracks in ("both", "visual", "audio"):
        certificate = getattr(head.calibrations, tracks).certificate
        yield f"{tracks}: {certificate.in_words if certificate else 'not measured'}"


def _source(source: Source) -> str:
    """A file with what pins it."""
    if source.repository is not None:
        origin = f"{source.repository}@{source.revision}"
    else:
        origin = source.revision or "local file"
    return f"{source.part}: {origin} {source.file} sha256 {source.sha256}"


@app.command()
def verify(directory: Directory) -> None:
    """Check every file of a bundle and that its graphs are what the manifest says; exit code 2 if not."""
    from service.bundle.directory import named_by_path
    from service.registry import load_bundle
    from service.runtime.providers import Runtime

    with named_by_path(directory):
        bundle = load_bundle(directory, Runtime(device="cpu"))
    n_files = len(bundle.manifest.files)
    typer.echo(
        f"{bundle.name} {bundle.manifest.version}: {n_files} files and all graphs are as the manifest says"
    )
