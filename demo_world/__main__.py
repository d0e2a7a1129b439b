"""`python -m demo_world`: build and measure the demo bundle, and record clips of its world."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from service.errors import AhseError
from service.settings import DEMO_BUNDLE

PROGRAM = "python -m demo_world"

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False)
Work = Annotated[Path, typer.Option(help="Folder for clips and features of one seed; may take a gigabyte.")]
Seed = Annotated[int, typer.Option(min=0, help="Decides everything random.")]
_EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


@app.command()
def build(
    work: Work = Path("build/demo"),
    out: Annotated[Path, typer.Option(help="Directory of the bundle; replaced.")] = DEMO_BUNDLE,
    examples: Annotated[Path, typer.Option(help="Folder of the example clips; replaced.")] = _EXAMPLES,
    seed: Seed = 0,
    keep_encoders: Annotated[
        bool,
        typer.Option(
            "--keep-encoders", help="Keep the encoders of that bundle and the examples; train the head only."
        ),
    ] = False,
) -> None:
    """Train the demo world's encoders and head from nothing and write the bundle and the examples."""
    from demo_world.build import build_demo, rebuild_head
    from demo_world.evaluate import kind_table, table

    started = time.monotonic()

    def progress(line: str) -> None:
        typer.echo(f"[{time.monotonic() - started:6.0f} s] {line}")

    if keep_encoders:
        scores = rebuild_head(work, out, seed, progress)
    else:
        scores = build_demo(work, out, examples, seed, progress)
    typer.echo(
        f"{table(scores)}\n\n{kind_table(scores)}\n\nbuilt in {(time.monotonic() - started) / 60:.1f} minutes"
    )


@app.command()
def evaluate(
    bundle: Annotated[Path, typer.Option(help="Directory of a demo bundle.")] = DEMO_BUNDLE,
    work: Work = Path("build/demo"),
    seed: Seed = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Make the fixed test clips where they are missing, classify all of them, and print the figures."""
    from demo_world.evaluate import agreement_lines, evaluate_demo, kind_table, table

    scores = evaluate_demo(bundle, work, seed, lambda line: typer.echo(line, err=True))
    if as_json:
        document = {
            "tracks": {track: accuracy.model_dump() for track, accuracy in scores.tracks.items()},
            "kinds": [asdict(kind) for kind in scores.kinds],
            "n_clips": scores.n_clips,
            "agreement": None if scores.agreement is None else asdict(scores.agreement),
        }
        typer.echo(json.dumps(document, indent=2))
    else:
        typer.echo(f"{table(scores)}\n\n{kind_table(scores)}")
        if scores.agreement is not None:
            typer.echo(agreement_lines(scores.agreement))


@app.command()
def clips(
    out: Annotated[Path, typer.Argument(help="Folder to write, one folder per class.", metavar="OUT")],
    n_classes: Annotated[int, typer.Option("--classes", min=1, max=96, help="How many.")] = 12,
    per_class: Annotated[int, typer.Option(min=1, help="Clips of each class.")] = 12,
    seed: Seed = 0,
) -> None:
    """Record clips in a folder for each class, as users have their own, to try `ahse extract` with."""
    from demo_world.clip_folders import write_class_folders

    classes = write_class_folders(out, n_classes, per_class, seed)
    typer.echo(f"{out}: {per_class} clips of each of {len(classes)} classes: {', '.join(classes)}")


@app.command()
def dataset(
    out: Annotated[Path, typer.Argument(help="Folder to write, with clips.csv inside.", metavar="OUT")],
    seed: Seed = 0,
) -> None:
    """Record all clips that the demo's head is trained and measured on, for `ahse extract OUT/clips.csv`."""
    from demo_world.clip_folders import write_dataset

    listing = write_dataset(out, seed, typer.echo)
    typer.echo(f"next: ahse extract {listing} --bundle {DEMO_BUNDLE} --name demo --out demo.safetensors")


def main() -> None:
    """Run the command line; an expected error is one line on stderr and exit code 2."""
    try:
        app(prog_name=PROGRAM)
    except AhseError as error:
        typer.echo(f"{PROGRAM}: {error.message} [{error.code}]", err=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
