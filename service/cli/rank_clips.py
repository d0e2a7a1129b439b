"""`ahse classify`: rank names for clips here, without a server."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service import option_texts as texts
from service.cli.command_app import CommandApp
from service.errors import AhseError, InvalidOptionError

if TYPE_CHECKING:
    from service.classifier import Classification, Ranked
    from service.labels.label import Label
    from service.media import Segment

app = CommandApp()
# Names on a line of the timeline; more would not be read.
_MAX_TIMELINE_NAMES = 3
# From here on it is more likely than not that no name fits.
_LIKELY_UNKNOWN = 0.5


@app.command()
def rank_clips(
    clips: Annotated[list[Path], typer.Argument(help="Media files.", metavar="CLIP...")],
    label: Annotated[list[str] | None, typer.Option(help="Candidate name; repeat for each.")] = None,
    labels_file: Annotated[
        Path | None, typer.Option(help="File of candidate names: one a line, or a JSON array; - for stdin.")
    ] = None,
    bundle: Annotated[Path | None, typer.Option(help="Bundle directory; default the everyday one.")] = None,
    template: Annotated[
        list[str] | None, typer.Option(help=f"{texts.TEMPLATES.description} Repeat for several.")
    ] = None,
    calibration: Annotated[
        str | None, typer.Option(help=texts.BETA.description, metavar="auto|off|NUMBER")
    ] = None,
    timeline: Annotated[bool, typer.Option("--timeline", help="Same as --segment-s auto.")] = False,
    segment_s: Annotated[
        str | None, typer.Option(help=texts.SEGMENT_S.description, metavar="auto|SECONDS")
    ] = None,
    frames: Annotated[str | None, typer.Option(help=texts.FRAMES.description, metavar="exact|key")] = None,
    top_k: Annotated[str, typer.Option(help=texts.TOP_K.description, metavar="N")] = "5",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a clip.")] = False,
) -> None:
    """Rank candidate names for each clip. A clip that can't be used is reported and the others go on."""
    from service.classifier import Classifier
    from service.cli.serve import read_settings
    from service.decode.pool import DecodePool
    from service.embed.embedder import LabelEmbedder
    from service.labels.label import Candidates, check_labels, make_label
    from service.options import ClassifyOptions, read_options
    from service.process import n_processors
    from service.registry import load_bundle

    given = {
        "templates": template or None,
        "calibration": calibration,
        "segment_s": segment_s or ("auto" if timeline else None),
        "frames": frames,
        "top_k": top_k,
    }
    options = read_options({name: v for name, v in given.items() if v is not None}, ClassifyOptions)
    settings = read_settings({"bundles": (bundle,)} if bundle else {})
    options = options.model_copy(update={"frames": options.frames or settings.frames})
    labels = tuple(make_label(name) for name in [*(label or []), *_read_labels(labels_file)])
    check_labels(labels, settings.max_labels)
    loaded = load_bundle(settings.bundles[0], settings.runtime(n_processors()))
    n_failed = 0
    with DecodePool(settings.decode_limits(), 1) as decoder:
        classifier = Classifier(decoder.decode, LabelEmbedder(settings.label_cache_size))
        names = classifier.embed(loaded, Candidates(labels), options).finish()
        for clip in clips:
            try:
                if not clip.is_file():
                    raise InvalidOptionError("there is no such file")
                result = classifier.classify(clip, loaded, names, options)
            except AhseError as error:
                typer.echo(f"{clip}: {error.message} [{error.code}]", err=True)
                n_failed += 1
            else:
                typer.echo((_as_json if as_json else _as_text)(clip, result, options.top_k or len(labels)))
    if n_failed:
        raise typer.Exit(1)


def _read_labels(path: Path | None) -> list[str]:
    if path is None:
        return []
    try:
        text = sys.stdin.read() if str(path) == "-" else path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidOptionError(f"--labels-file can't be read as UTF-8 text: {path}") from error
    if not text.lstrip().startswith("["):
        return [line for line in text.splitlines() if line.strip()]
    try:
        names = json.loads(text)
    except ValueError as error:
        raise InvalidOptionError("--labels-file starts with [ but is not a JSON array") from error
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InvalidOptionError("--labels-file must be a JSON array of strings")
    return names


def _as_json(clip: Path, result: Classification, top_k: int) -> str:
    """The answer of POST /v1/classify, with the file in place of the request's id."""
    from service.api.answer import make_answer

    answer = make_answer(
        result, request_id=str(clip), label_set=None, top_k=top_k, timings_ms=result.timings_ms
    )
    document = {"file": str(clip), **answer.model_dump(exclude={"id", "label_set"})}
    return json.dumps(document, ensure_ascii=False)


def _as_text(clip: Path, result: Classification, top_k: int) -> str:
    lines = [str(clip)]
    ranking, labels = result.whole.ranking, result.names.labels
    lines += [f"  {ranking.score[i]:7.2%}  {labels[i].name}" for i in ranking.best(top_k).tolist()]
    if ranking.unknown is not None and ranking.unknown >= _LIKELY_UNKNOWN:
        lines.append(f"  perhaps none of these (unknown {ranking.unknown:.0%})")
    lines += _timeline(result, min(top_k, _MAX_TIMELINE_NAMES))
    notice = result.bundle.manifest.notice
    lines += [f"  note: {text}" for text in (*([notice] if notice else []), *result.warnings)]
    return "\n".join(lines)


def _timeline(result: Classification, n_names: int) -> list[str]:
    """One line a segment under a heading, nothing when no segments were asked for."""
    if not result.clip.segments:
        return []
    rows = [
        f"  {segment.start_s:7.1f} {segment.end_s:7.1f}  "
        f"{_segment(segment, ranked, result.names.labels, n_names)}"
        for segment, ranked in zip(result.clip.segments, result.segments, strict=True)
    ]
    return [f"  {'start':>7} {'end s':>7}  best names", *rows]


def _segment(segment: Segment, ranked: Ranked | None, labels: tuple[Label, ...], n_names: int) -> str:
    if ranked is None:
        return f"nothing to rank by (picture: {segment.visual.detail}; sound: {segment.audio.detail})"
    order, score = ranked.ranking.best(n_names).tolist(), ranked.ranking.score
    names = "   ".join(f"{score[i]:7.2%} {labels[i].name}" for i in order)
    if segment.visual.used and segment.audio.used:
        return names
    return names + ("   (sound alone)" if segment.audio.used else "   (picture alone)")
