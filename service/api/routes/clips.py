"""POST /v1/classify: a clip and candidate names in, ranked predictions out."""

from __future__ import annotations

import time

from fastapi import APIRouter, Request, Response

from service import errors
from service.api.answer import make_answer
from service.api.bodies import read_form
from service.api.context import Context, ContextDep, cancelled_by_disconnect
from service.api.intake.upload import FormLimits, Upload, receive_upload
from service.api.middleware import CLASSIFY
from service.api.openapi import documented, request_body
from service.api.problems import request_id_of
from service.api.schemas import ClassifyForm, ClassifyResponse
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
        errors.RequestTimeoutError,
    ),
    openapi_extra=request_body(ClassifyForm, "multipart/form-data"),
)
async def post_clip(request: Request, context: ContextDep) -> Response:
    """Rank candidate names for one clip by its picture and sound together."""
    started, settings = time.perf_counter(), context.settings
    limits = FormLimits(max_fields=settings.max_labels + 100, max_field_bytes=settings.max_json_bytes)
    async with receive_upload(request, context.uploads, limits, context.budget) as upload:
        question = _Question(context, upload, request_id_of(request.scope), _ms_since(started))
        async with cancelled_by_disconnect(request):
            if upload.url is not None:
                await context.download(upload.url, upload.path, upload.share)
            # All of it beside the event loop: even reading and answering 10,000 names takes too long for it.
            answer = await context.work_on_clip(question.begin)
            if answer is None:
                while not question.names_are_known:
                    await context.work_on_names(question.encode_some_names)
                answer = await context.work_on_clip(question.answer)
    steps = ", ".join(f"{step};dur={ms:.1f}" for step, ms in question.timings_ms.items())
    return Response(answer, media_type="application/json", headers={"Server-Timing": steps})


class _Question:
    """A request behind its upload, worked on in several threads one after the other.

    Args:
        context: The parts of the service.
        upload: The form.
        request_id: Id of the answer.
        upload_ms: How long the upload took.

    Attributes:
        timings_ms: Wall time of each step.
    """

    def __init__(self, context: Context, upload: Upload, request_id: str, upload_ms: float) -> None:
        self._context = context
        self._path = upload.path
        self._fields = upload.fields
        self._request_id = request_id
        self._arrived = time.perf_counter()
        self.timings_ms = {"upload": upload_ms}

    def begin(self) -> str | None:
        """JSON of the answer; None while names have to be encoded, which other threads do."""
        self._read()
        return self.answer() if self.names_are_known else None

    @property
    def names_are_known(self) -> bool:
        """Whether the clip can be worked on."""
        return self._names.is_known

    def encode_some_names(self) -> None:
        """One step, after which other requests have their turn."""
        self._names.step()

    def answer(self) -> str:
        """JSON of the answer, once all names are known."""
        names = self._names.finish()
        self.timings_ms["labels"] = _ms_since(self._names_began)
        facts = {"n_labels": len(names.labels), "n_encoded": names.n_encoded}
        self._context.tracing.past_step("labels", self.timings_ms["labels"] / 1000, facts)
        result = self._context.classifier.classify(self._path, self._bundle, names, self._options)
        total_ms = self.timings_ms["upload"] + _ms_since(self._arrived)
        self.timings_ms |= {**result.timings_ms, "total": total_ms}
        self._context.metrics.classification(self.timings_ms, len(names.labels), names.n_encoded)
        return make_answer(
            result,
            request_id=self._request_id,
            label_set=self._form.label_set,
            top_k=self._form.top_k,
            timings_ms=self.timings_ms,
        ).model_dump_json()

    def _read(self) -> None:
        """The fields of the form as checked values."""
        self.timings_ms["wait"] = _ms_since(self._arrived)
        settings = self._context.settings
        self._form = form = read_form(self._fields)
        check_count(len(form.labels), settings.max_labels)
        self._bundle = self._context.registry.get(form.bundle)
        candidates, templates = _candidates(self._context, form)
        self._options = form.options(templates, settings.frames)
        encoders = self._bundle.manifest
        own = max(encoders.visual.text.templates, encoders.audio.text.templates, key=len)
        candidates.check_prompt_characters(self._options.templates or own, settings.max_prompt_characters)
        self._names_began = time.perf_counter()
        self._names = self._context.classifier.embed(self._bundle, candidates, self._options)


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
