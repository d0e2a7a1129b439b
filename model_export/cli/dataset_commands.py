"""`ahse dataset`: check, simulate, pack and split data sets."""

from __future__ import annotations

from dataclasses import replace
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
from service.cli.command_app import CommandApp

if TYPE_CHECKING:
    from model_export.data.datasets import DatasetCheck

app = CommandApp(no_args_is_help=True)


@app.command()
def check(
    root: Annotated[
        Path, typer.Argument(help="Folder in the published layout, or a feature file.", metavar="ROOT")
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Count classes and clips, compare with the published counts, list every problem; exit code 2 if any."""
    from model_export.data.datasets import check_features, check_published, open_dataset

    found = check_published(root) if root.is_dir() else check_features(open_dataset(root))
    typer.echo(found.model_dump_json(indent=2) if as_json else _described(root, found))
    if found.problems:
        raise typer.Exit(2)


@app.command()
def simulate(
    source: Annotated[
        Path,
        typer.Argument(help="Folder with class-split and, if it has any, text vectors.", metavar="SOURCE"),
    ],
    out: Annotated[Path, typer.Argument(help="Folder to write; must not exist.", metavar="OUT")],
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same features.")] = 0,
    clips: Annotated[
        int | None, typer.Option(min=1, help="Clips of each class, instead of the published counts.")
    ] = None,
    text_signal: Annotated[float, typer.Option(help="Strength of what the class's text tells.")] = 0.6,
    class_offset: Annotated[float, typer.Option(help="Strength of what no text tells.")] = 0.8,
    spread: Annotated[float, typer.Option(help="Spread of clips within a class.")] = 3.062,
    low_rank_share: Annotated[
        float, typer.Option(min=0, max=1, help="Share of the spread along directions that all classes share.")
    ] = 2 / 3,
    n_shared_directions: Annotated[int, typer.Option(min=1, help="Number of shared directions.")] = 64,
    modality_gap: Annotated[float, typer.Option(help="Distance between clips and texts.")] = 1.5,
) -> None:
    """Write a SIMULATED data set of full size: real lists, splits and text vectors, made-up clip features."""
    from model_export.data import simulate as simulation

    knobs = simulation.Knobs(
        text_signal, class_offset, spread, low_rank_share, n_shared_directions, modality_gap
    )
    made = simulation.simulate(source, out, seed, knobs, clips)
    typer.echo(
        f"{made.root}: SIMULATED {made.name}, {sum(made.n_clips.values())} clips, {made.text} text vectors"
    )
    if made.text == "random":
        typer.echo(f"{source} has no text vectors; random ones with some topics replace them")


@app.command()
def invent(
    out: Annotated[
        Path, typer.Argument(help="Feature file to write, ending in .safetensors; must not exist.")
    ],
    seed: Seed = 0,
    clips: Annotated[int, typer.Option(min=1, help="Clips of each class.")] = 30,
) -> None:
    """Write a SIMULATED feature file of invented classes with random texts, to try commands with."""
    from model_export.data.feature_file import write_feature_file
    from model_export.data.invented import invent as make_up

    check_new_feature_file(out)
    made = make_up(seed, clips)
    write_feature_file(out, made)
    typer.echo(split_table(made.data))


@app.command()
def pack(
    source: Annotated[
        Path, typer.Argument(help="Folder in the published layout, or a feature file.", metavar="SOURCE")
    ],
    out: Annotated[
        Path,
        typer.Argument(help="Feature file to write, ending in .safetensors; must not exist.", metavar="OUT"),
    ],
    encoders: Annotated[
        str | None, typer.Option(help="Which encoders made the features: their digest, or a name.")
    ] = None,
) -> None:
    """Write a data set as one feature file, which loads fast and says which encoders made it."""
    from model_export.data.datasets import open_dataset, open_features
    from model_export.data.feature_file import numbered, write_feature_file

    check_new_feature_file(out)
    found = numbered(open_dataset(source)) if source.is_dir() else open_features(source)
    data = replace(found.data, encoders=encoders or found.data.encoders)
    write_feature_file(out, replace(found, data=data))
    typer.echo(f"{out}: {data.name}, made by the encoders {data.encoders!r}")


@app.command()
def split(
    features: Annotated[Path, typer.Argument(help="Feature file.", metavar="FEATURES")],
    out: Annotated[Path, typer.Argument(help="Feature file to write; must not exist.", metavar="OUT")],
    seed: Seed = 0,
    unseen: Unseen = None,
) -> None:
    """Assign the clips of a feature file to other splits, without decoding or encoding anything again."""
    from model_export.data.feature_file import read_feature_file, write_feature_file
    from model_export.data.splits import split_anew

    check_new_feature_file(out)
    found = split_anew(features, read_feature_file(features), seed, read_unseen(unseen))
    write_feature_file(out, found)
    typer.echo(split_table(found.data))


def _described(root: Path, found: DatasetCheck) -> str:
    from model_export.report.tables import Table

    kind = {True: "SIMULATED ", False: "", None: "without clip features: "}[found.simulated]
    rows = tuple(
        (
            s.split,
            str(s.n_classes),
            str(s.n_clips),
            "no published counts"
            if s.published_clips is None
            else f"{s.published_classes} / {s.published_clips}",
            "as published" if s.as_published else "",
        )
        for s in found.splits
    )
    lines = [
        Table(f"{root}: {kind}{found.name}", ("split", "classes", "clips", "published", ""), rows).text()
    ]
    if found.mixed_up:
        listed = ", ".join(found.mixed_up)
        lines.append(
            f"the reference loader takes another class's text for {len(found.mixed_up)} classes: {listed}"
        )
    lines.append(f"{len(found.problems)} problems" + "".join(f"\n  {problem}" for problem in found.problems))
    return "\n\n".join(lines)
