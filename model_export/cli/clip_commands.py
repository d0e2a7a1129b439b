"""`ahse extract` and `ahse calibrate`: a user's own clips through the encoders of a bundle."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from model_export.cli.shared_options import (
    Seed,
    Unseen,
    check_new_feature_file,
    read_unseen,
    split_table,
)
from model_export.errors import DatasetError, Problem
from service.cli.command_app import CommandApp

if TYPE_CHECKING:
    from model_export.data.gzsl_data import GzslData
    from model_export.extract.extraction import Extracted, Journal
    from model_export.extract.listing import Listing
    from service.registry import Bundle
    from service.settings import Settings

extract_app = CommandApp()
calibrate_app = CommandApp()


@extract_app.command()
def extract(
    source: Annotated[
        Path,
        typer.Argument(
            help="Folder with one folder per class, or a CSV of path,label[,split].", metavar="CLIPS"
        ),
    ],
    bundle: Annotated[Path, typer.Option(help="Bundle whose encoders make the features.")],
    out: Annotated[Path, typer.Option(help="Feature file to write, ending in .safetensors; must not exist.")],
    seed: Seed = 0,
    unseen: Unseen = None,
    name: Annotated[str | None, typer.Option(help="Of the data set; default: that of CLIPS.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
) -> None:
    """Decode and encode every clip as serving does, and write the features with splits to train on.

    An extraction that was stopped continues with the same command. Clips that fail are listed at the end.
    """
    from model_export.data.feature_file import write_feature_file
    from model_export.extract.extraction import Journal
    from model_export.extract.feature_set import assemble, check_copies, split_clips
    from model_export.extract.listing import list_clips, path_text
    from service.cli.serve import read_settings
    from service.process import n_processors
    from service.registry import load_bundle

    check_new_feature_file(out)
    settings, names = read_settings({"device": device}), read_unseen(unseen)
    listing = list_clips(source)
    _say_not_entered(listing)
    split_clips(source, listing.clips, seed, names)  # fail before the long work if no split is possible
    loaded = load_bundle(bundle, settings.runtime(n_processors()))
    out.parent.mkdir(parents=True, exist_ok=True)
    with Journal(out.with_name(f"{out.name}.journal"), loaded.manifest.encoders_digest()) as journal:
        found = _extract(listing, loaded, journal, settings)
        _say_found(found)
        if not found.clips:
            raise DatasetError(source, [Problem(source.name, "not one of its clips can be used")])
        splits = split_clips(source, found.clips, seed, names, listing.clips)
        check_copies(source, found, splits)
        features = assemble(found, splits, loaded, path_text(name or source.resolve().stem))
        write_feature_file(out, features)
        journal.remove()
    _say_left_out(listing, features.data)
    typer.echo(split_table(features.data))
    typer.echo(f"{out}: made by the encoders {features.data.encoders}")
    typer.echo(f"next: ahse train {out} --out RUN")


@calibrate_app.command()
def calibrate(
    bundle: Annotated[Path, typer.Argument(help="Bundle whose head is `similarity`.", metavar="BUNDLE")],
    clips: Annotated[
        Path,
        typer.Argument(
            help="Folder of clips like those to be classified; no labels needed.", metavar="CLIPS"
        ),
    ],
    out: Annotated[
        Path | None, typer.Option(help="Directory of the new bundle; default: BUNDLE itself is replaced.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
) -> None:
    """Fit the mean and covariance of clips' features, by which similarity to any name is standardised.

    A name that is similar to every clip then gains nothing by it. A command that was stopped continues when
    it is run again.
    """
    from model_export.export.existing_bundle import write_refitted
    from model_export.export.head_parts import STATISTICS_FILE
    from model_export.extract.extraction import Journal
    from model_export.extract.listing import list_unlabelled
    from model_export.extract.moments import fit
    from service.bundle.head_specs import SimilaritySpec
    from service.cli.serve import read_settings
    from service.head.similarity import SimilarityHead
    from service.process import n_processors
    from service.registry import load_bundle

    if out is not None and out.exists():
        raise DatasetError(out, [Problem(str(out), "exists already; choose another directory or remove it")])
    settings, target = read_settings({"device": device}), out or bundle
    loaded, listing = load_bundle(bundle, settings.runtime(n_processors())), list_unlabelled(clips)
    head, manifest = loaded.head, loaded.manifest
    if not isinstance(head, SimilarityHead):
        what = "has a trained head, whose statistics come from training; only similarity heads are calibrated"
        raise DatasetError(bundle, [Problem(manifest.name, what)])
    _say_not_entered(listing)
    target.resolve().parent.mkdir(parents=True, exist_ok=True)
    kept = target.resolve().with_name(f".{target.resolve().name}.journal")
    with Journal(kept, manifest.encoders_digest()) as journal:
        found = _extract(listing, loaded, journal, settings)
        _say_found(found)
        statistics = fit(found.features, clips)
        # What was fitted to similarity on another scale is dropped.
        fitted = SimilaritySpec(
            kind="similarity",
            statistics=STATISTICS_FILE,
            visual_share=head.spec.visual_share,
            n_clips=len(found.clips),
        )
        command = f"ahse calibrate {manifest.name} ({len(found.clips)} clips)"
        write_refitted(bundle, manifest, target, fitted, statistics, command)
        journal.remove()
    typer.echo(f"{target}: similarity is standardised by {len(found.clips)} clips")
    typer.echo(f"next: ahse serve --bundle {target}")


def _extract(listing: Listing, bundle: Bundle, journal: Journal, settings: Settings) -> Extracted:
    """Extract with a progress bar; Ctrl-C ends the command, and what is done stays in the journal."""
    from model_export.extract.extraction import extract_clips
    from model_export.progress import progress_bars
    from service.decode import DecodePool

    n_decoders = settings.decode_workers
    try:
        with (
            DecodePool(settings.decode_limits(), n_decoders) as pool,
            progress_bars(["clips"], show=sys.stderr.isatty()) as report,
        ):
            return extract_clips(
                listing, bundle, pool.decode, journal, n_decoders, lambda *counts: report("clips", *counts)
            )
    except KeyboardInterrupt:
        typer.echo("ahse: stopped; the same command continues from here", err=True)
        raise typer.Exit(130) from None


def _say_not_entered(listing: Listing) -> None:
    """Print the folders of which no clip is used."""
    for one in listing.not_entered:
        typer.echo(f"{one.file}: left out: {one.what}", err=True)


def _say_found(found: Extracted) -> None:
    """Print how many clips there are, and every one that failed."""
    for failed in found.failed:
        typer.echo(f"{failed.clip.path}: {failed.message} [{failed.code}]", err=True)
    one_track = sum(one.visual is None or one.audio is None for one in found.features)
    notes = [
        f"{found.n_resumed} of them done before" if found.n_resumed else "",
        f"{one_track} with one track only" if one_track else "",
        f"{len(found.failed)} failed, listed above" if found.failed else "",
        f"{found.n_ignored} other files skipped" if found.n_ignored else "",
    ]
    typer.echo("; ".join([f"{len(found.clips)} clips", *(note for note in notes if note)]))


def _say_left_out(listing: Listing, data: GzslData) -> None:
    """Print the classes that are in the listing only."""
    from model_export.data.splits import MIN_CLIPS

    if names := {clip.label for clip in listing.clips} - set(data.class_names):
        is_given = any(clip.split for clip in listing.clips)
        fewer = "no clip, or none to train on," if is_given else f"fewer than {MIN_CLIPS} clips"
        typer.echo(f"left out, with {fewer} that can be used: {', '.join(sorted(names))}", err=True)
