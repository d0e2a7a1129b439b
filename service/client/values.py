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
class LabelSet:
    """A stored label set.

    Attributes:
        name: Its name.
        labels: In the order they were added.
        templates: Prompt templates instead of the bundle's, or None.
        n_labels: Their number.
        etag: Send it as `if_match` to change only what you have read.
        created: When the set was made.
        updated: When its content changed last.
    """

    name: str
    labels: tuple[Label, ...]
    templates: tuple[str, ...] | None
    n_labels: int
    etag: str
    created: datetime
    updated: datetime

    @classmethod
    def read(cls, document: Document) -> Self:
        """From JSON."""
        templates = document["templates"]
        return cls(
            name=document["name"],
            labels=tuple(map(Label.read, document["labels"])),
            templates=None if templates is None else tuple(templates),
            n_labels=document["n_labels"],
            etag=document["etag"],
            created=datetime.fromisoformat(document["created"]),
            updated=datetime.fromisoformat(document["updated"]),
        )

    def as_document(self) -> dict[str, Any]:
        """As JSON, of the form that the service sends."""
        times = {"created": self.created.isoformat(), "updated": self.updated.isoformat()}
        return asdict(self) | {"labels": [label.as_document() for label in self.labels]} | times


@dataclass(frozen=True)
class LabelSetSummary:
    """A label set in a listing."""

    name: str
    n_labels: int
    etag: str
    updated: datetime

    @classmethod
    def read(cls, document: Document) -> Self:
        """From JSON."""
        updated = datetime.fromisoformat(document["updated"])
        return cls(document["name"], document["n_labels"], document["etag"], updated)


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
