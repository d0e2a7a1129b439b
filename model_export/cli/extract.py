"""`ahse extract`: your own clips to a feature file that a head can be trained on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from model_export.cli.app import TrainingApp
from model_export.cli.splits import Seed, Unseen, check_new_feature_file, read_unseen, split_table
from model_export.data.feature_file import SUFFIX, write_feature_file
from model_export.data.splits import MIN_CLIPS
from model_export.errors import DatasetError, Problem
from model_export.extract.clips import Extracted, Progress, extract_clips
from model_export.extract.dataset import assemble, split_clips
from model_export.extract.journal import Journal
from model_export.extract.listing import Listing, list_clips
from service.bundle.bundle import Bundle, load_bundle
from service.cli.serve import read_settings
from service.decode import DecodePool
from service.processors import n_processors
from service.settings import Settings

app = TrainingApp()


@app.command()
def extract(
    source: Annotated[
        Path,
        typer.Argument(
            help="Folder with one folder per class, or a CSV of path,label[,split].", metavar="CLIPS"
        ),
    ],
    bundle: Annotated[Path, typer.Option(help="Bundle whose encoders make the features.")],
    out: Annotated[Path, typer.Option(help=f"Feature file to write, ending in {SUFFIX}; must not exist.")],
    seed: Seed = 0,
    unseen: Unseen = None,
    name: Annotated[str | None, typer.Option(help="Of the data set; default: that of CLIPS.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
) -> None:
    """Decode and encode every clip as serving does, and keep the features with splits to train by.

    An attempt that was stopped goes on with the same command. A clip that fails is told at the end.
    """
    check_new_feature_file(out)
    settings, names = read_settings({"device": device}), read_unseen(unseen)
    listing = list_clips(source)
    split_clips(source, listing.clips, seed, names)  # before the work: what can't be split is not worth it
    loaded = load_bundle(bundle, settings.runtime(n_processors()))
    out.parent.mkdir(parents=True, exist_ok=True)
    with Journal(out.with_name(f"{out.name}.journal"), loaded.manifest.encoders_digest()) as journal:
        found = extract_with_progress(listing, loaded, journal, settings)
        say_found(found)
        if not found.clips:
            raise DatasetError(source, [Problem(source.name, "not one of its clips can be used")])
        splits = split_clips(source, found.clips, seed, names)
        features = assemble(found, splits, loaded, name or source.resolve().stem)
        write_feature_file(out, features)
        journal.remove()
    _say_left_out({clip.label for clip in listing.clips} - set(features.data.class_names))
    typer.echo(split_table(features.data))
    typer.echo(f"{out}: made by the encoders {features.data.encoders}")
    typer.echo(f"next: ahse train {out} --out RUN")


def extract_with_progress(
    listing: Listing, bundle: Bundle, journal: Journal, settings: Settings
) -> Extracted:
    """Extract with a progress bar; a stop from the keyboard ends the command, and nothing done is lost."""
    n_decoders = settings.decode_workers
    try:
        with DecodePool(settings.decode_limits(), n_decoders) as pool, _progress_bar() as progress:
            return extract_clips(listing, bundle, pool, journal, n_decoders, progress)
    except KeyboardInterrupt:
        typer.echo("ahse: stopped; the same command goes on from here", err=True)
        raise typer.Exit(130) from None


@contextmanager
def _progress_bar() -> Iterator[Progress]:
    """A progress bar with the time left, on a terminal; nothing elsewhere."""
    columns = (TextColumn("clips"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Bar(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("clips", total=None)
        yield lambda n_done, n_clips: bar.update(task, completed=n_done, total=n_clips)


def say_found(found: Extracted) -> None:
    """How many clips there are, and every one that failed."""
    for failed in found.failed:
        typer.echo(f"{failed.clip.path}: {failed.message} [{failed.code}]", err=True)
    one_track = sum(one.visual is None or one.audio is None for one in found.features)
    notes = [
        f"{found.n_resumed} of them done before" if found.n_resumed else "",
        f"{one_track} with one track only" if one_track else "",
        f"{len(found.failed)} failed, listed above" if found.failed else "",
        f"{found.n_ignored} other files passed over" if found.n_ignored else "",
    ]
    typer.echo("; ".join([f"{len(found.clips)} clips", *(note for note in notes if note)]))


def _say_left_out(names: set[str]) -> None:
    if names:
        listed = ", ".join(sorted(names))
        typer.echo(f"left out, with fewer than {MIN_CLIPS} clips that can be used: {listed}", err=True)
