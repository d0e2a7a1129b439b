"""POST /v1/classify: a clip and candidate names in, ranked predictions out."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter, Request, Response

from service import errors
from service.api.addresses import CLASSIFY
from service.api.answer import make_answer
from service.api.client_watch import work_for_client
from service.api.context import Context, ContextDep
from service.api.options import ClassifyOptions, parse_options
from service.api.problems import documented
from service.api.request_id import request_id_of
from service.api.schemas import ClassifyResponse
from service.api.upload import FormLimits, Upload, receive_upload
from service.labels.label import Label, check_labels

router = APIRouter(tags=["classify"])

_FORM: dict[str, Any] = {
    "type": "object",
    "required": ["file"],
    "properties": {
        "file": {"type": "string", "format": "binary", "description": "The clip: any common container."},
        "labels": {
            "type": "array",
            "items": {"type": "string"},
            "description": "Candidate names: the field repeated (`labels` or `labels[]`), or one field with "
            "a JSON array. Names may contain commas; nothing is split.",
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
        "segment_s": {
            "anyOf": [{"type": "number", "minimum": 1, "maximum": 600}, {"const": "auto"}],
            "description": "Rank for segments of the clip too: their length in seconds, or auto (the window "
            "of the bundle's sound encoder). The last one is from half to one and a half times as long.",
            "example": 10,
        },
        "frames": {
            "enum": ["exact", "key"],
            "description": "Which pictures of the clip are looked at: exact (those on screen at evenly "
            "spaced times) or key (the key frames nearest to them, which decode faster). Default: the "
            "deployment's.",
        },
        "bundle": {"type": "string", "description": "Name of a loaded bundle; default the first."},
    },
}


@router.post(
    CLASSIFY,
    response_model=ClassifyResponse,
    responses=documented(
        errors.MalformedBodyError,
        errors.UnknownBundleError,
        errors.UnknownLabelSetError,
        errors.BodyTooLargeError,
        errors.UploadStalledError,
        errors.NotMediaError,
        errors.MediaError,
        errors.LabelError,
        errors.InvalidOptionError,
        errors.UnavailableError,
    ),
    openapi_extra={"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": _FORM}}}},
)
async def classify(request: Request, context: ContextDep) -> Response:
    """Rank candidate names for one clip by its picture and sound together."""
    started, settings = time.perf_counter(), context.settings
    limits = FormLimits(max_fields=settings.max_labels + 100, max_field_bytes=settings.max_json_bytes)
    async with receive_upload(request, settings.upload_dir, limits) as upload:
        upload_ms = _ms_since(started)
        # All of it beside the event loop: even reading and answering 10,000 names takes too long for it.
        request_id = request_id_of(request.scope)
        async with work_for_client(request, context.metrics):
            waits = time.perf_counter()
            body, timings = await context.classify(_classify, context, upload, request_id, upload_ms, waits)
    steps = ", ".join(f"{step};dur={ms:.1f}" for step, ms in timings.items())
    return Response(body, media_type="application/json", headers={"Server-Timing": steps})


def _classify(
    context: Context, upload: Upload, request_id: str, upload_ms: float, waits: float
) -> tuple[str, dict[str, float]]:
    """The whole of a request behind the upload: JSON of the answer and the wall time of each step."""
    wait_ms = _ms_since(waits)
    options = parse_options(upload.fields, context.settings.max_labels)
    bundle = context.registry.get(options.bundle)
    labels, templates, known_as = _candidates(context, options)
    result = context.classifier.classify(
        upload.path,
        bundle,
        labels,
        templates=options.templates or templates,
        known_as=known_as,
        stacking=options.stacking,
        segment_s=options.segment_s,
        frames=options.frames or context.settings.frames,
    )
    total_ms = upload_ms + _ms_since(waits)
    timings = {"upload": upload_ms, "wait": wait_ms, **result.timings_ms, "total": total_ms}
    context.metrics.classification(timings, len(labels), result.labels.n_encoded)
    answer = make_answer(
        result,
        request_id=request_id,
        label_set=options.label_set,
        top_k=options.top_k,
        timings_ms=timings,
    )
    return answer.model_dump_json(), timings


def _ms_since(moment: float) -> float:
    return (time.perf_counter() - moment) * 1000


def _candidates(
    context: Context, options: ClassifyOptions
) -> tuple[Sequence[Label], tuple[str, ...] | None, str | None]:
    """Labels, templates and ETag of the label set, checked when it was put; or the request's own labels."""
    if options.label_set is not None:
        label_set = context.store.get(options.label_set)
        if not label_set.labels:
            raise errors.NoLabelsError(f"label set {label_set.name!r} is empty; add labels to it")
        return label_set.labels, label_set.templates, label_set.etag
    if not options.labels:
        raise errors.NoLabelsError(
            "No labels were given; send candidate names (-F labels=dog -F labels=cat) or a label_set."
        )
    check_labels(options.labels, context.settings.max_labels)
    return options.labels, None, None
