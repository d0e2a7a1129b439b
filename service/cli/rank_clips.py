"""`ahse classify`: rank names for clips, here or at a running service."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service import option_texts as texts
from service.cli.clip_files import STDIN, ClipFile, find_clips
from service.cli.command_app import CommandApp
from service.cli.connection import Key, Url, connected, refuse_key_without_url
from service.cli.interrupts import Interrupts, exiting_at_once
from service.cli.names import Labels, LabelsFile, read_names
from service.cli.progress import shown, weight
from service.cli.question_options import AudioWindows, Frames, Guarantee, SegmentS, Templates, TopK
from service.cli.ranking_run import Outputs, RankingRun
from service.cli.subtitles import Subtitles
from service.errors import InvalidOptionError

if TYPE_CHECKING:
    from service.cli.rankers import Question, Ranker
    from service.cli.record_files import RecordFile

app = CommandApp()
_EXIT_CODES = (
    "Exit codes: 0 every clip has an answer; 1 some have none, as listed at the end; 2 nothing could be "
    "done, and why is told; 130 interrupted by Ctrl-C: the output file is complete, and --resume goes on."
)


@app.command(epilog=_EXIT_CODES)
def rank_clips(
    clips: Annotated[
        list[str],
        typer.Argument(
            help="Media files; folders, in which files are found by their content; quoted patterns such as "
            "'clips/**/*.mp4'; - for a clip on standard input.",
            metavar="CLIP...",
        ),
    ],
    labels: Labels = None,
    labels_file: LabelsFile = None,
    label_set: Annotated[
        str | None, typer.Option(help=f"{texts.LABEL_SET.description} With --url, of the service.")
    ] = None,
    bundle: Annotated[
        str | None,
        typer.Option(help="Bundle directory, or with --url the name of a loaded bundle; default the first."),
    ] = None,
    templates: Templates = None,
    calibration: Annotated[
        str | None, typer.Option(help=texts.BETA.description, metavar="auto|off|NUMBER")
    ] = None,
    guarantee: Guarantee = None,
    timeline: Annotated[bool, typer.Option("--timeline", help="Same as --segment-s auto.")] = False,
    segment_s: SegmentS = None,
    frames: Frames = None,
    audio_windows: AudioWindows = None,
    top_k: TopK = "5",
    url: Url = None,
    key: Key = None,
    jobs: Annotated[
        int | None,
        typer.Option(
            min=1, max=256, metavar="N", help="Clips at once; default: the processors, or 4 with --url."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a clip.")] = False,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Write a record for each clip, failures too, in place of text: .jsonl, .csv or .parquet.",
        ),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Go on with --output: leave out files that have an answer there and have the same size and "
            "time of change; those that failed are tried again.",
        ),
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace output files that are there already.")
    ] = False,
    srt: Annotated[
        bool, typer.Option("--srt", help="Write the timeline as SubRip beside each clip, as CLIP.srt.")
    ] = False,
    vtt: Annotated[bool, typer.Option("--vtt", help="The same as WebVTT, CLIP.vtt.")] = False,
    out_dir: Annotated[
        Path | None, typer.Option(help="Folder for --srt and --vtt, with the folders of the clips in it.")
    ] = None,
) -> None:
    """Rank candidate names for each clip. A clip that can't be used is reported and the others go on."""
    with ExitStack() as stack:
        with exiting_at_once():  # nothing is written yet
            from service.cli.rankers import read_question

            refuse_key_without_url(url, key)
            if resume and output is None:
                raise InvalidOptionError("--resume goes on with a file; give it with --output")
            if STDIN in clips and str(labels_file) == STDIN:
                raise InvalidOptionError("standard input can't be both a clip and the file of labels")
            question = read_question(
                read_names(labels, labels_file),
                label_set,
                bundle,
                templates=templates,
                calibration=calibration,
                guarantee=guarantee,
                segment_s=segment_s or ("auto" if timeline or srt or vtt else None),
                frames=frames,
                audio_windows=audio_windows,
                top_k=top_k,
            )
            found = _find(clips, stack)
            subtitles = Subtitles(found, {".srt": srt, ".vtt": vtt}, out_dir, overwrite=overwrite)
            if not (resume and output is not None and output.exists()):
                subtitles.refuse_to_replace()
            ranker = stack.enter_context(_ranker(question, url, key, jobs))
        interrupts = stack.enter_context(Interrupts())
        records = _open(output, ranker, found, subtitles, resume=resume, overwrite=overwrite)
        run = RankingRun(
            ranker,
            interrupts,
            Outputs(records, subtitles, as_json, "" if records is None else "Go on with --resume."),
        )
        todo = _without_answer(found, records)
        with (
            nullcontext() if records is None else closing(records),
            shown(len(todo), sum(map(weight, todo))) as display,
        ):
            stopped = run.rank_all(todo, display)
        code = run.end(len(todo), stopped)
    raise typer.Exit(code)


def _find(words: Sequence[str], stack: ExitStack) -> tuple[ClipFile, ...]:
    found = find_clips(words)
    for clip in found.clips:
        if clip.spooled is not None:
            stack.enter_context(clip.spooled)
    if skipped := found.skipped_text():
        typer.echo(f"skipped in folders: {skipped}", err=True)
    if not found.clips:
        raise InvalidOptionError("there are no clips in what was given")
    return found.clips


def _without_answer(clips: Sequence[ClipFile], records: RecordFile | None) -> Sequence[ClipFile]:
    """The clips that have no answer in the output file yet."""
    if records is None or not records.done:
        return clips
    left = [clip for clip in clips if clip.name not in records.done]
    typer.echo(f"{len(clips) - len(left)} of {len(clips)} clips have their answer already", err=True)
    return left


@contextmanager
def _ranker(question: Question, url: str | None, key: str | None, n_jobs: int | None) -> Iterator[Ranker]:
    from service.cli.rankers import RemoteRanker, ranker_here
    from service.cli.serve import read_settings

    if url is not None:
        with connected(url, key, n_jobs) as client:
            yield RemoteRanker(question, client, n_jobs)
        return
    ranker = ranker_here(question, read_settings({}), n_jobs)
    try:
        yield ranker
    finally:
        ranker.close()


def _open(
    path: Path | None,
    ranker: Ranker,
    clips: Sequence[ClipFile],
    subtitles: Subtitles,
    *,
    resume: bool,
    overwrite: bool,
) -> RecordFile | None:
    """Open the output file. Of answers in one that is resumed, subtitles that are missing are written."""
    from service.cli.record_files import open_records

    if path is None:
        return None
    question, complete = ranker.question_hash, subtitles.complete
    return open_records(path, question, clips, complete, resume=resume, overwrite=overwrite)
