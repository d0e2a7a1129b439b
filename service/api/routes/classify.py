"""POST /v1/classify: a clip and candidate names in, ranked predictions out."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from fastapi import APIRouter, Request, Response

from service.api.context import Context, ContextDep
from service.api.options import ClassifyOptions, parse_options
from service.api.request_id import request_id_of
from service.api.schemas import Classification, Prediction, Problem, Tracks, TrackScore, TrackUse
from service.api.upload import FormLimits, Upload, receive_upload
from service.classifier import Classification as Result
from service.errors import NoLabelsError
from service.labels.label import Label, check_labels
from service.media import Track
from service.rank.ranking import TrackScores

router = APIRouter(tags=["classify"])

_FORM: dict[str, Any] = {
    "type": "object",
    "required": ["file"],
    "properties": {
        "file": {"type": "string", "format": "binary", "description": "The clip: any common container."},
        "labels": {
            "type": "array",
            "items": {"type": "string"},
            "description": "Candidate names: the field repeated, or one field with a JSON array. "
            "Names may contain commas; nothing is split.",
            "example": ["star with a bell", "ring with a drum"],
        },
        "label_set": {"type": "string", "description": "Name of a stored label set, instead of labels."},
        "top_k": {"type": "integer", "minimum": 1, "description": "How many predictions; default all."},
        "templates": {
            "type": "array",
            "items": {"type": "string"},
            "description": "Prompt templates instead of the bundle's; `{}` stands for the name.",
            "example": ["a video of a {}."],
        },
        "calibration": {
            "type": "string",
            "default": "auto",
            "description": "Calibrated stacking of seen classes: auto (the bundle's beta), off or a number.",
        },
        "bundle": {"type": "string", "description": "Name of a loaded bundle; default the first."},
    },
}
_PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"model": Problem, "description": text, "content": {"application/problem+json": {}}}
    for status, text in {
        400: "Not a multipart form.",
        404: "No such bundle or label set.",
        413: "The upload is too large.",
        415: "The file is not media that can be read.",
        422: "Labels, options or the clip are not acceptable; `code` says which.",
    }.items()
}


@router.post(
    "/v1/classify",
    responses=_PROBLEMS,
    openapi_extra={"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": _FORM}}}},
)
async def classify(request: Request, response: Response, context: ContextDep) -> Classification:
    """Rank candidate names for one clip by its picture and sound together."""
    started = time.perf_counter()
    settings = context.settings
    limits = FormLimits(max_fields=settings.max_labels + 100, max_field_bytes=settings.max_json_bytes)
    async with receive_upload(request, settings.upload_dir, limits) as upload:
        upload_ms = (time.perf_counter() - started) * 1000
        options = parse_options(upload.fields)
        result = await context.run(_classify, context, upload, options)
    total_ms = (time.perf_counter() - started) * 1000
    timings = {"upload": upload_ms, **result.timings_ms, "total": total_ms}
    context.metrics.classification(timings, len(result.labels.labels), result.labels.n_encoded)
    response.headers["Server-Timing"] = ", ".join(f"{step};dur={ms:.1f}" for step, ms in timings.items())
    return _answer(request_id_of(request.scope), options, result, timings)


def _classify(context: Context, upload: Upload, options: ClassifyOptions) -> Result:
    bundle = context.registry.get(options.bundle)
    labels, templates = _candidates(context, options)
    return context.classifier.classify(
        upload.path, bundle, labels, templates=options.templates or templates, stacking=options.stacking
    )


def _candidates(context: Context, options: ClassifyOptions) -> tuple[Sequence[Label], tuple[str, ...] | None]:
    """Labels and templates of the request, or of its label set, which was checked when it was put."""
    if options.label_set is not None:
        label_set = context.store.get(options.label_set)
        if not label_set.labels:
            raise NoLabelsError(f"label set {label_set.name!r} is empty; add labels to it")
        return label_set.labels, label_set.templates
    if not options.labels:
        raise NoLabelsError(
            "No labels were given; send candidate names (-F labels=dog -F labels=cat) or a label_set."
        )
    check_labels(options.labels, context.settings.max_labels)
    return options.labels, None


def _answer(
    request_id: str, options: ClassifyOptions, result: Result, timings: dict[str, float]
) -> Classification:
    manifest, clip = result.bundle.manifest, result.clip
    return Classification(
        id=request_id,
        bundle=manifest.name,
        bundle_version=manifest.version,
        label_set=options.label_set,
        n_labels=len(result.labels.labels),
        predictions=_predictions(result, options.top_k),
        tracks=Tracks(visual=_track_use(clip.visual), audio=_track_use(clip.audio)),
        duration_s=_rounded(clip.duration_s),
        calibration=result.beta,
        unknown=_rounded(result.ranking.unknown),
        warnings=list(result.warnings),
        timings_ms={step: round(ms, 2) for step, ms in timings.items()},
    )


def _predictions(result: Result, top_k: int | None) -> list[Prediction]:
    ranking, labels = result.ranking, result.labels
    return [
        Prediction(
            rank=rank,
            label=labels.labels[index].name,
            score=_rounded(ranking.score[index]),
            distance=_rounded(ranking.distance[index]),
            seen=bool(labels.seen[index]),
            visual=_track_score(result.visual, index),
            audio=_track_score(result.audio, index),
        )
        for rank, index in enumerate(ranking.order[:top_k].tolist(), start=1)
    ]


def _track_score(scores: TrackScores | None, index: int) -> TrackScore | None:
    if scores is None:
        return None
    return TrackScore(similarity=_rounded(scores.similarity[index]), score=_rounded(scores.score[index]))


def _rounded(value: float | np.float32) -> float:
    """Six decimals: the rest of a float32 says nothing."""
    return round(float(value), 6)


def _track_use(track: Track) -> TrackUse:
    return TrackUse(used=track.used, reason=track.reason, detail=track.detail)
