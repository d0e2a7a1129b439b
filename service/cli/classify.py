"""`ahse classify`: rank names for clips here, without a server."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from service.api.answer import make_answer
from service.cli.serve import read_settings
from service.cli.timeline import timeline_lines
from service.errors import AhseError, InvalidOptionError

if TYPE_CHECKING:
    from service.classifier import Classification, Classifier
    from service.labels.label import Label


def classify(
    clips: Annotated[list[Path], typer.Argument(help="Media files.", metavar="CLIP...")],
    label: Annotated[list[str] | None, typer.Option(help="Candidate name; repeat for each.")] = None,
    labels_file: Annotated[
        Path | None, typer.Option(help="File of candidate names: one a line, or a JSON array.")
    ] = None,
    bundle: Annotated[Path | None, typer.Option(help="Bundle directory; default the everyday one.")] = None,
    template: Annotated[
        list[str] | None, typer.Option(help="Prompt template, `{}` stands for the name; repeat for several.")
    ] = None,
    calibration: Annotated[str, typer.Option(help="auto, off, or a number.")] = "auto",
    timeline: Annotated[bool, typer.Option("--timeline", help="Rank for segments of each clip too.")] = False,
    segment_s: Annotated[
        str | None,
        typer.Option(
            metavar="SECONDS",
            help="Length of the segments of --timeline, which it implies; default auto, the window of the "
            "bundle's sound encoder.",
        ),
    ] = None,
    frames: Annotated[str, typer.Option(help="exact, or key for the nearest key frames, faster.")] = "exact",
    top_k: Annotated[int, typer.Option(min=1, help="How many predictions to print.")] = 5,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a clip.")] = False,
) -> None:
    """Rank candidate names for each clip. A clip that can't be used is reported and the others go on."""
    from service.api.options import parse_frames
    from service.bundle.bundle import load_bundle
    from service.candidates.embedder import LabelEmbedder
    from service.classifier import Classifier
    from service.decode.pool import DecodePool
    from service.decode.segment_length import parse_segment_length
    from service.labels.label import check_labels, make_label
    from service.labels.templates import check_templates
    from service.processors import n_processors
    from service.rank.ranking import parse_stacking

    if timeline and segment_s is None:
        segment_s = "auto"
    settings = read_settings({"bundles": (bundle,)} if bundle else {})
    labels = [make_label(name) for name in [*(label or []), *_read_labels(labels_file)]]
    check_labels(labels, settings.max_labels)
    options = {
        "templates": check_templates(template) if template else None,
        "stacking": parse_stacking(calibration),
        "segment_s": None if segment_s is None else parse_segment_length(segment_s),
        "frames": parse_frames(frames),
    }
    loaded = load_bundle(settings.bundles[0], settings.runtime(n_processors()))
    decoder = DecodePool(settings.decode_limits(), 1)
    try:
        classifier = Classifier(decoder, LabelEmbedder(settings.label_cache_size))
        n_failed = sum(not _one(classifier, clip, loaded, labels, options, top_k, as_json) for clip in clips)
    finally:
        decoder.close()
    if n_failed:
        raise typer.Exit(1)


def _one(
    classifier: Classifier,
    clip: Path,
    bundle: Any,
    labels: list[Label],
    options: dict[str, Any],
    top_k: int,
    as_json: bool,
) -> bool:
    try:
        if not clip.is_file():
            raise InvalidOptionError("there is no such file")
        result = classifier.classify(clip, bundle, labels, **options)
    except AhseError as error:
        typer.echo(f"{clip}: {error.message} [{error.code}]", err=True)
        return False
    typer.echo(_as_json(clip, result, top_k) if as_json else _as_text(clip, result, top_k))
    return True


def _as_json(clip: Path, result: Classification, top_k: int) -> str:
    """The answer of POST /v1/classify, with the file in place of the request's id."""
    answer = make_answer(
        result, request_id=str(clip), label_set=None, top_k=top_k, timings_ms=result.timings_ms
    )
    document = {"file": str(clip), **answer.model_dump(exclude={"id", "label_set"})}
    return json.dumps(document, ensure_ascii=False)


def _as_text(clip: Path, result: Classification, top_k: int) -> str:
    lines = [str(clip)]
    ranking, labels = result.whole.ranking, result.labels.labels
    lines += [f"  {ranking.score[i]:7.2%}  {labels[i].name}" for i in ranking.best(top_k).tolist()]
    lines += timeline_lines(result, top_k)
    notice = result.bundle.manifest.notice
    lines += [f"  note: {text}" for text in (*([notice] if notice else []), *result.warnings)]
    return "\n".join(lines)


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
