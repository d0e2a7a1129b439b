"""A request behind its upload: which names, how, and the answer for each of its clips."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

from service import errors
from service.api.answer import make_answer
from service.api.bodies import read_form
from service.api.context import Context
from service.api.forms import ClassifyForm
from service.api.intake.body import Fields
from service.api.intake.upload import Upload
from service.api.schemas import ClassifyLine
from service.api.timeline import TIMELINES
from service.embed.embedder import Embedding
from service.labels.label import Candidates, check_count, check_labels, make_label
from service.labels.store import LabelSet, check_set_name
from service.options import ClassifyOptions
from service.registry import Bundle

# How long a step of embedding a label set behind requests gives way to new names of requests.
_PATIENCE_S = 1.0


@dataclass(frozen=True)
class Answer:
    """The answer for one clip, as it is sent.

    Attributes:
        text: JSON, or the form of a timeline that the fields ask for.
        timings_ms: Wall time of each step.
    """

    text: str
    timings_ms: Mapping[str, float]


_STALE = (
    "The store of label sets does not answer: the label set was used as it was read last, and may have "
    "changed since."
)


class Question:
    """What is asked of the clips of one request. Worked on in several threads, one after the other.

    Args:
        context: The parts of the service.
        fields: What was sent with the clips.
        request_id: Id of the answers.
        upload_ms: How long the upload took.
    """

    def __init__(self, context: Context, fields: Fields, request_id: str, upload_ms: float = 0.0) -> None:
        self._context = context
        self._fields = fields
        self._request_id = request_id
        self._arrived = time.perf_counter()
        self._timings_ms = {"upload": upload_ms}
        self._form: ClassifyForm | None = None
        self._warnings: tuple[str, ...] = ()

    @property
    def form(self) -> ClassifyForm:
        """The fields as checked values, once they were read."""
        if self._form is None:
            raise RuntimeError("the fields were not read yet")
        return self._form

    async def ask(self, upload: Upload, index: int | None = None) -> Answer:
        """The answer for one clip; the fields are read and new names encoded before the first.

        All of it runs beside the event loop: even reading and answering 10,000 names takes too long for it.

        Args:
            upload: The clip.
            index: Its place in a list of clips, which is then in the answer.

        Raises:
            AhseError: The fields or the clip are not acceptable, or the service can't do it now.
            ClientDisconnect: Nobody waits for the answer.
        """
        if upload.url is not None:
            await self.check()  # before a download that may be large
            await self._download(upload.url, upload)
        answer = await self._context.work_on_clip(self._begin, upload, index)
        if answer is None:
            await self._encode_names()
            answer = await self._context.work_on_clip(self._answer, upload, index)
        return answer

    async def check(self) -> None:
        """Read the fields, so that all that is wrong with them is known.

        Raises:
            AhseError: They are not acceptable.
            ClientDisconnect: Nobody waits for the answer.
        """
        # Not in the line of clips: a clip at a URL would stand in it twice.
        await self._context.ask_store(self._read)

    async def prepare(self) -> None:
        """Read the fields and encode new names: what is wrong with them is then known before any answer.

        Raises:
            AhseError: They are not acceptable.
            ClientDisconnect: Nobody waits for the answer.
        """
        await self.check()
        await self._encode_names()

    async def _download(self, url: str, upload: Upload) -> None:
        """Fetch a clip. That takes the place of its upload, and no time of the other steps."""
        began = time.perf_counter()
        await self._context.download(url, upload.path, upload.share)
        took_s = time.perf_counter() - began
        self._timings_ms["upload"] += took_s * 1000
        self._arrived += took_s
        self._names_began += took_s

    async def _encode_names(self) -> None:
        while not self._names.is_known:
            # After each step other requests have their turn.
            await self._context.encode_some(self._names)

    def _begin(self, upload: Upload, index: int | None) -> Answer | None:
        """The answer; None while names have to be encoded, which other threads do."""
        if self._form is None:
            self._read()
        return self._answer(upload, index) if self._names.is_known else None

    def _answer(self, upload: Upload, index: int | None) -> Answer:
        """The answer, once all names are known."""
        names, form = self._names.finish(), self.form
        if "labels" not in self._timings_ms:
            self._timings_ms["labels"] = _ms_since(self._names_began)
            facts = {"n_labels": len(names.labels), "n_encoded": names.n_encoded}
            self._context.tracing.past_step("labels", self._timings_ms["labels"] / 1000, facts)
            self._context.metrics.names(self._timings_ms, len(names.labels), names.n_encoded)
        result = self._context.classifier.classify(upload.path, self._bundle, names, self._options)
        total_ms = self._timings_ms["upload"] + _ms_since(self._arrived)
        own_ms = {**result.timings_ms, "total": total_ms}
        self._context.metrics.classification(own_ms, is_known=result.is_known)
        timings_ms = self._timings_ms | own_ms
        answer = make_answer(
            result,
            request_id=self._request_id,
            label_set=form.label_set,
            top_k=form.top_k,
            timings_ms=timings_ms,
            warnings=self._warnings,
        )
        if form.returned != "json":
            return Answer(TIMELINES[form.returned].write(answer), timings_ms)
        line = answer if index is None else ClassifyLine.model_construct(index=index, **dict(answer))
        return Answer(line.model_dump_json(), timings_ms)

    def _read(self) -> None:
        """The fields as checked values."""
        self._timings_ms["wait"] = _ms_since(self._arrived)
        settings = self._context.settings
        form = read_form(self._fields)
        check_count(len(form.labels), settings.max_labels)
        self._bundle = self._context.registry.get(form.bundle)
        name = form.label_set
        label_set = None if name is None else self._context.store.get(check_set_name(name))
        candidates = _candidates(form, label_set, settings.max_labels)
        if label_set is not None and label_set.is_stale:
            self._warnings = (_STALE,)
            self._context.metrics.stale_label_set()
        self._options = form.options(label_set, settings.frames)
        self._names_began = time.perf_counter()
        self._names = begin_to_embed(self._context, self._bundle, candidates, self._options)
        self._form = form


async def embed_label_set(context: Context, name: str) -> bool:
    """Embed a label set behind requests, as a request with nothing but its name would.

    Returns:
        Whether all of it is embedded; else it was changed meanwhile, and what was encoded is kept.

    Raises:
        AhseError: There is no such set, or it can't be embedded.
    """
    label_set = await context.ask_store(context.store.get, name)
    if not label_set.labels:
        return True
    bundle, options = context.registry.get(), ClassifyOptions(templates=label_set.templates)
    names = await context.work_on_names(begin_to_embed, context, bundle, label_set.candidates, options)
    while not names.is_known:
        await context.name_workers.fewer_than(1, _PATIENCE_S)
        await context.encode_some(names)
        if (await context.ask_store(context.store.get, name)).etag != label_set.etag:
            return False
    await context.work_on_names(names.finish)
    return True


def begin_to_embed(
    context: Context, bundle: Bundle, candidates: Candidates, options: ClassifyOptions
) -> Embedding:
    """Begin to embed names, if their prompts are not too much text for a request.

    Raises:
        TooMuchTextError: They are.
    """
    encoders = bundle.manifest
    own = max(encoders.visual.text.templates, encoders.audio.text.templates, key=len)
    candidates.check_prompt_characters(options.templates or own, context.settings.max_prompt_characters)
    return context.classifier.embed(bundle, candidates, options)


def _ms_since(moment: float) -> float:
    return (time.perf_counter() - moment) * 1000


def _candidates(form: ClassifyForm, label_set: LabelSet | None, max_labels: int) -> Candidates:
    """The labels of a set, which were checked when it was put, or those that were sent."""
    if label_set is not None:
        if not label_set.labels:
            raise errors.NoLabelsError(f"label set {label_set.name!r} is empty; add labels to it")
        return label_set.candidates
    labels = tuple(make_label(name) for name in form.labels)
    if not labels:
        raise errors.NoLabelsError(
            "No labels were given; send candidate names (-F labels=dog -F labels=cat) or a label_set."
        )
    check_labels(labels, max_labels)
    return Candidates(labels)
