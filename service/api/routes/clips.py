"""POST /v1/classify: a clip and candidate names in, ranked predictions out."""

from __future__ import annotations

import time

from fastapi import APIRouter, Request, Response

from service import errors
from service.api.answer import make_answer
from service.api.bodies import read_form
from service.api.context import Context, ContextDep, work_for_client
from service.api.middleware import CLASSIFY
from service.api.openapi import documented, request_body
from service.api.problems import request_id_of
from service.api.schemas import ClassifyForm, ClassifyResponse
from service.api.upload import FormLimits, Upload, receive_upload
from service.labels.label import (
    Candidates,
    check_count,
    check_labels,
    make_label,
)

router = APIRouter(tags=["classify"])


@router.post(
    CLASSIFY,
    name="classify",
    response_model=ClassifyResponse,
    responses=documented(
        errors.MalformedBodyError,
        errors.UnknownBundleError,
        errors.UnknownLabelSetError,
        errors.BodyTooLargeError,
        errors.UploadStalledError,
        errors.UrlRefusedError,
        errors.FetchFailedError,
        errors.NotMediaError,
        errors.MediaError,
        errors.LabelError,
        errors.InvalidOptionError,
        errors.UnavailableError,
    ),
    openapi_extra=request_body(ClassifyForm, "multipart/form-data"),
)
async def post_clip(request: Request, context: ContextDep) -> Response:
    """Rank candidate names for one clip by its picture and sound together."""
    started, settings = time.perf_counter(), context.settings
    limits = FormLimits(max_fields=settings.max_labels + 100, max_field_bytes=settings.max_json_bytes)
    async with receive_upload(request, context.uploads, limits, context.fetcher) as upload:
        upload_ms = _ms_since(started)
        # All of it beside the event loop: even reading and answering 10,000 names takes too long for it.
        request_id = request_id_of(request.scope)
        async with work_for_client(request, context.metrics):
            waits = time.perf_counter()
            body, timings = await context.work_on_clip(_answer, context, upload, request_id, upload_ms, waits)
    steps = ", ".join(f"{step};dur={ms:.1f}" for step, ms in timings.items())
    return Response(body, media_type="application/json", headers={"Server-Timing": steps})


def _answer(
    context: Context, upload: Upload, request_id: str, upload_ms: float, waits: float
) -> tuple[str, dict[str, float]]:
    """The whole of a request behind the upload: JSON of the answer and the wall time of each step."""
    wait_ms = _ms_since(waits)
    form = read_form(upload.fields)
    check_count(len(form.labels), context.settings.max_labels)
    bundle = context.registry.get(form.bundle)
    candidates, templates = _candidates(context, form)
    options = form.options(templates, context.settings.frames)
    encoders = bundle.manifest
    own = max(encoders.visual.text.templates, encoders.audio.text.templates, key=len)
    candidates.check_prompt_characters(options.templates or own, context.settings.max_prompt_characters)
    result = context.classifier.classify(upload.path, bundle, candidates, options)
    total_ms = upload_ms + _ms_since(waits)
    timings = {"upload": upload_ms, "wait": wait_ms, **result.timings_ms, "total": total_ms}
    context.metrics.classification(timings, len(candidates.labels), result.names.n_encoded)
    answer = make_answer(
        result, request_id=request_id, label_set=form.label_set, top_k=form.top_k, timings_ms=timings
    )
    return answer.model_dump_json(), timings


def _ms_since(moment: float) -> float:
    return (time.perf_counter() - moment) * 1000


def _candidates(context: Context, form: ClassifyForm) -> tuple[Candidates, tuple[str, ...] | None]:
    """The label set's labels, checked when it was put, and its templates; or the request's own labels."""
    if form.label_set is not None:
        label_set = context.store.get(form.label_set)
        if not label_set.labels:
            raise errors.NoLabelsError(f"label set {label_set.name!r} is empty; add labels to it")
        return label_set.candidates, label_set.templates
    labels = tuple(make_label(name) for name in form.labels)
    if not labels:
        raise errors.NoLabelsError(
            "No labels were given; send candidate names (-F labels=dog -F labels=cat) or a label_set."
        )
    check_labels(labels, context.settings.max_labels)
    return Candidates(labels), None
