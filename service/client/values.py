"""Label sets, jobs, models and the service itself, as frozen dataclasses with the fields of /openapi.json."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from datetime import datetime
from typing import Any, Self

from service.client.answers import Answer, Document, Flat
from service.client.errors import ServiceError


@dataclass(frozen=True)
class Label:
    """A label with prompts of its own, which stand for it instead of the templates."""

    name: str
    prompts: tuple[str, ...] = ()

    @classmethod
    def read(cls, document: Document) -> Self:
        """From JSON."""
        return cls(document["name"], tuple(document["prompts"]))

    def as_document(self) -> dict[str, Any]:
        """As JSON."""
        return {"name": self.name, "prompts": list(self.prompts)}


@dataclass(frozen=True)
class LabelSetSummary:
    """A stored label set without its labels.

    Attributes:
        name: Its name.
        n_labels: How many labels it has.
        templates: Prompt templates instead of the bundle's, or None.
        guarantee: Of requests with it that have none of their own, or None.
        etag: Send it as `if_match` to change only what you have read.
        created: When the set was made.
        updated: When its etag changed last.
    """

    name: str
    n_labels: int
    templates: tuple[str, ...] | None
    guarantee: float | None
    etag: str
    created: datetime
    updated: datetime

    @classmethod
    def read(cls, document: Document) -> Self:
        """From JSON."""
        return cls(**_summary(document))

    def as_document(self) -> dict[str, Any]:
        """As JSON, of the form that the service sends."""
        return asdict(self) | {"created": self.created.isoformat(), "updated": self.updated.isoformat()}


@dataclass(frozen=True)
class LabelSet(LabelSetSummary):
    """A stored label set.

    Attributes:
        labels: In the order they were added.
    """

    labels: tuple[Label, ...]

    @classmethod
    def read(cls, document: Document) -> Self:
        """From JSON."""
        return cls(**_summary(document), labels=tuple(map(Label.read, document["labels"])))


def _summary(document: Document) -> dict[str, Any]:
    """The fields of a label set without its labels."""
    found = {one.name: document[one.name] for one in fields(LabelSetSummary)}
    templates = found["templates"]
    times = {name: datetime.fromisoformat(found[name]) for name in ("created", "updated")}
    return found | times | {"templates": None if templates is None else tuple(templates)}


@dataclass(frozen=True)
class JobClip(Flat):
    """What has become of one clip of a job.

    Attributes:
        index: Place among the clips, from 0.
        name: Of its file.
        state: queued, running, done, failed or cancelled.
    """

    index: int
    name: str
    state: str


@dataclass(frozen=True)
class Job:
    """Clips that are worked on behind requests.

    Attributes:
        id: Of the job.
        state: queued, running, done, failed, cancelled or expired.
        n_clips: All of them.
        n_done: Those that have a result.
        n_failed: Those of them whose result is an error.
        progress: 0..1, share of clips that have a result.
        created: When it was sent.
        started: When the first clip was begun.
        ended: When the last one was done.
        expires: When the results go, or, once they are gone, this record.
        webhook: waiting, pending, delivered or failed; None without one.
        clips: In the order sent; None in listings and in answers to changes.
    """

    id: str
    state: str
    n_clips: int
    n_done: int
    n_failed: int
    progress: float
    created: datetime
    started: datetime | None
    ended: datetime | None
    expires: datetime | None
    webhook: str | None
    clips: tuple[JobClip, ...] | None

    @property
    def has_ended(self) -> bool:
        """Nothing is worked on any more."""
        return self.state not in ("queued", "running")

    @classmethod
    def read(cls, document: Document) -> Self:
        """From JSON."""
        times = {name: document[name] for name in ("created", "started", "ended", "expires")}
        nested: dict[str, Any] = {
            name: None if sent is None else datetime.fromisoformat(sent) for name, sent in times.items()
        }
        clips = document.get("clips")
        nested["clips"] = None if clips is None else tuple(map(JobClip.read, clips))
        return cls(**{one.name: document[one.name] for one in fields(cls) if one.name not in nested} | nested)


@dataclass(frozen=True)
class JobResult:
    """The outcome of one clip of a job: either an answer or an error.

    Attributes:
        index: Place among the clips, from 0.
        name: Of its file.
        answer: None if the clip could not be answered.
        error: Why not.
    """

    index: int
    name: str
    answer: Answer | None
    error: ServiceError | None

    @classmethod
    def read(cls, document: Document) -> Self:
        """From a line of JSON."""
        error = None
        if "code" in document:
            code, detail, status = (document[name] for name in ("code", "detail", "status"))
            error = ServiceError(code, detail, status=status, request_id=document["request_id"])
        answer = Answer.read(document) if error is None else None
        return cls(document["index"], document["name"], answer, error)


@dataclass(frozen=True)
class Metric(Flat):
    """One measured number of a bundle, with its data."""

    name: str
    value: float
    unit: str
    data: str


@dataclass(frozen=True)
class Model:
    """A loaded bundle.

    Attributes:
        id: Its name.
        created: Unix time at which it was made.
        owned_by: Always `ahse`.
        version: Its version.
        description: What it is.
        notice: What everybody who reads its answers must know, or None.
        digest: Changes with any byte of it.
        default: Requests that name none use it.
        provider: Execution provider of onnxruntime.
        seen_classes: Classes that its head was trained on.
        metrics: What was measured.
    """

    id: str
    created: int
    owned_by: str
    version: str
    description: str
    notice: str | None
    digest: str
    default: bool
    provider: str
    seen_classes: tuple[str, ...]
    metrics: tuple[Metric, ...]

    @classmethod
    def read(cls, document: Document) -> Self:
        """From JSON."""
        nested = {
            "seen_classes": tuple(document["seen_classes"]),
            "metrics": tuple(map(Metric.read, document["metrics"])),
        }
        return cls(**{one.name: document[one.name] for one in fields(cls)} | nested)


@dataclass(frozen=True)
class Limits(Flat):
    """What one request may ask."""

    max_upload_bytes: int
    max_json_bytes: int
    max_files: int
    max_labels: int
    max_labels_per_set: int
    max_duration_s: float
    max_segments: int


@dataclass(frozen=True)
class Info:
    """The service itself."""

    version: str
    default_bundle: str
    bundles: tuple[str, ...]
    limits: Limits

    @classmethod
    def read(cls, document: Document) -> Self:
        """From JSON."""
        return cls(
            document["version"],
            document["default_bundle"],
            tuple(document["bundles"]),
            Limits.read(document["limits"]),
        )


@dataclass(frozen=True)
class Health:
    """Whether the service works.

    Attributes:
        ready: Every part worked when it was tried last.
        detail: Which part does not, and why; empty when all do.
    """

    ready: bool
    detail: str
