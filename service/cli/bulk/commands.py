"""`ahse bulk plan`, `run` and `status`."""

from __future__ import annotations

import re
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli.command_app import CommandApp
from service.cli.interrupts import Interrupts, exiting_at_once
from service.cli.names import Labels, LabelsFile, read_names
from service.cli.question_options import AudioWindows, Frames, Guarantee, SegmentS, Templates, TopK
from service.errors import InvalidOptionError

if TYPE_CHECKING:
    from service.cli.bulk.plan import Plan

app = CommandApp(no_args_is_help=True)
Folder = Annotated[Path, typer.Argument(help="Folder of a plan.", metavar="DIR")]
_SHOWN_SHARDS = 10


@app.callback()
def _bulk() -> None:
    """Label clips by the million: a fixed plan, shards for any number of workers, one result file each."""


@app.command()
def plan(
    inputs: Annotated[
        list[str],
        typer.Argument(
            help="Files, folders, patterns, a CSV with a column `clip`, or URLs such as s3://BUCKET/FOLDER.",
            metavar="INPUT...",
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder of the plan; must not exist. Workers need it too.")],
    labels: Labels = None,
    labels_file: LabelsFile = None,
    label_set: Annotated[
        str | None, typer.Option(help="Label set of the data directory; its labels of now are in the plan.")
    ] = None,
    bundle: Annotated[Path | None, typer.Option(help="Bundle directory; default the first served.")] = None,
    templates: Templates = None,
    segment_s: SegmentS = None,
    frames: Frames = None,
    audio_windows: AudioWindows = None,
    guarantee: Guarantee = None,
    top_k: TopK = "5",
    shard_size: Annotated[int, typer.Option(min=1, help="Clips in a shard.")] = 1000,
) -> None:
    """List the clips and cut the list into shards; no clip is decoded."""
    from service.bundle.directory import named_by_path, open_manifest
    from service.cli.bulk.plan import PlannedLabel, write_plan
    from service.cli.bulk.sources import find
    from service.cli.rankers import ask_here, read_question
    from service.cli.serve import read_settings

    question = read_question(
        read_names(labels, labels_file),
        label_set,
        None,
        templates=templates,
        segment_s=segment_s,
        frames=frames,
        audio_windows=audio_windows,
        guarantee=guarantee,
        top_k=top_k,
    )
    settings = read_settings({})
    asked = ask_here(question, settings)
    directory = bundle or settings.bundles[0]
    with named_by_path(directory):
        manifest, digest = open_manifest(directory)
    found = find(inputs)
    if skipped := found.skipped_text():
        typer.echo(f"skipped in folders: {skipped}", err=True)
    if not found.clips:
        raise InvalidOptionError("there are no clips in what was given")
    made = write_plan(
        out,
        found.clips,
        shard_size,
        {
            "bundle": f"{manifest.name} {manifest.version}",
            "bundle_digest": digest,
            "labels": [PlannedLabel(name=one.name, prompts=one.prompts) for one in asked.candidates.labels],
            "label_set": label_set,
            "options": asked.options,
        },
    )
    typer.echo(f"{out}: {made.n_clips} clips in {made.n_shards} shards, {len(made.labels)} labels")
    typer.echo(f"next: ahse bulk run {out}")


@app.command()
def run(
    folder: Folder,
    shard: Annotated[
        str, typer.Option(help="Of n workers the k-th, from 0: shards k, k + n, k + 2n ...", metavar="K/N")
    ] = "0/1",
    bundle: Annotated[
        Path | None, typer.Option(help="Directory of the planned bundle; default the first served.")
    ] = None,
    jobs: Annotated[
        int | None, typer.Option(min=1, max=256, metavar="N", help="Clips at once; default: the processors.")
    ] = None,
    ray: Annotated[
        str | None,
        typer.Option(
            help="Work on all nodes of a Ray cluster: auto for the one that this machine is part of.",
            metavar="auto|HOST:PORT",
        ),
    ] = None,
) -> None:
    """Classify the clips of all own shards that have no results yet."""
    from service.cli.bulk.plan import Plan
    from service.cli.bulk.results import is_done

    with exiting_at_once():
        k, n = _worker(shard)
        planned = Plan.read(folder)
        todo = [one for one in range(k, planned.n_shards, n) if not is_done(folder, one)]
    if not todo:
        typer.echo("every shard of this worker has its results already")
        return
    if ray is None:
        code = _run_here(folder, planned, todo, bundle, jobs)
    else:
        from service.cli.bulk.on_ray import run_on_ray

        code = run_on_ray(ray, folder, planned, todo, bundle, jobs)
    raise typer.Exit(code)


def _run_here(folder: Path, planned: Plan, todo: list[int], bundle: Path | None, jobs: int | None) -> int:
    """Work on shards in this process; returns the exit code."""
    from service.cli.bulk.plan import read_shard, size_of_shard
    from service.cli.bulk.results import ShardResults
    from service.cli.bulk.shard_worker import ranker_of
    from service.cli.bulk.sources import local
    from service.cli.progress import shown
    from service.cli.ranking_run import Outputs, RankingRun
    from service.cli.serve import read_settings

    with ExitStack() as stack:
        with exiting_at_once():
            sizes = [size_of_shard(folder, one) for one in todo]
            ranker = ranker_of(planned, bundle, read_settings({}), jobs)
            stack.callback(ranker.close)
        interrupts = stack.enter_context(Interrupts())
        n_clips, n_bytes = map(sum, zip(*sizes, strict=True))
        # Shards are read when their turn comes: a plan may have more clips than fit into memory.
        clips = (clip for one in todo for clip in read_shard(folder, one))
        names = ((one, [clip.name for clip in read_shard(folder, one)]) for one in todo)
        with shown(n_clips, n_bytes) as display:
            results = ShardResults(folder, names, display.message)
            outputs = Outputs(results, None, as_json=False, how_to_go_on="Go on with the same command.")
            run = RankingRun(ranker, interrupts, outputs, local)
            stopped = run.rank_all(clips, display)
        return run.end(n_clips, stopped)


@app.command()
def status(folder: Folder) -> None:
    """How many shards and clips are done. Exit code 0: all; 1: not all."""
    from service.cli.bulk.plan import Plan
    from service.cli.bulk.results import read_status

    with exiting_at_once():
        planned = Plan.read(folder)
        found = read_status(folder, planned)
    n_done = planned.n_shards - len(found.missing)
    typer.echo(f"{n_done} of {planned.n_shards} shards, {found.n_clips} of {planned.n_clips} clips")
    for code, n in found.failed.most_common():
        typer.echo(f"{n} failed [{code}]")
    if found.missing:
        shown = ", ".join(map(str, found.missing[:_SHOWN_SHARDS]))
        more = "" if len(found.missing) <= _SHOWN_SHARDS else ", ..."
        typer.echo(f"missing: {shown}{more}")
        typer.echo(f"next: ahse bulk run {folder}")
        raise typer.Exit(1)


def _worker(text: str) -> tuple[int, int]:
    """Both numbers of K/N.

    Raises:
        InvalidOptionError: It is something else, or k is not below n.
    """
    found = re.fullmatch("([0-9]{1,9})/([0-9]{1,9})", text)
    k, n = (int(one) for one in found.groups()) if found else (0, 0)
    if k >= n:
        raise InvalidOptionError("--shard must be K/N, workers counted from 0: 0/4, 1/4, 2/4, 3/4")
    return k, n
