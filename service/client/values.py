"""What the service answers, as frozen dataclasses. Their fields are those of /openapi.json.

Fields that a newer service adds are left out here; `Answer.document` has them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime
from typing import Any, Self

from service.client.errors import ServiceError

Document = Mapping[str, Any]
"""A JSON object."""


@dataclass(frozen=True)
class _Flat:
    """A value whose fields are plain JSON values."""

    @classmethod
    def read(cls, document: Document) -> Self:
        """Take the fields that the value has; KeyError when one is missing."""
        return cls(**{one.name: document[one.name] for one in fields(cls)})


@dataclass(frozen=True)
class TrackScore(_Flat):
    """What one track alone says of a candidate.

    Attributes:
        similarity: Cosine of the track's feature and the name's text feature.
        score: Probability among the candidates by this track alone.
    """

    similarity: float
    score: float


@dataclass(frozen=True)
class Prediction:
    """One candidate.

    Attributes:
        rank: 1 is the best.
        label: Its name.
        score: Probability among the candidates; all of them sum to 1.
        distance: Smaller is better.
        seen: The bundle's head was trained on this class.
        visual: By the picture alone; None when no picture was used.
        audio: By the sound alone; None when no sound was used.
    """

    rank: int
    label: str
    score: float
    distance: float
    seen: bool
    visual: TrackScore | None
    audio: TrackScore | None

    @classmethod
    def read(cls, document: Document) -> Self:
        """From JSON."""
        by_track = {
            track: None if document[track] is None else TrackScore.read(document[track])
            for track in ("visual", "audio")
        }
        return cls(**{one.name: document[one.name] for one in fields(cls)} | by_track)


@dataclass(frozen=True)
class TrackUse(_Flat):
    """Whether a track was used, and why not.

    Attributes:
        used: It was.
        reason: Stable code when it was not.
        detail: What was used, or why it was not, in words.
    """

    used: bool
    reason: str | None
    detail: str


@dataclass(frozen=True)
class Tracks:
    """Both tracks of a clip, or of a segment."""

    visual: TrackUse
    audio: TrackUse

    @classmethod
    def read(cls, document: Document) -> Self:
        """From JSON."""
        return cls(visual=TrackUse.read(document["visual"]), audio=TrackUse.read(document["audio"]))


@dataclass(frozen=True)
class Segment:
    """The ranked answer for one segment of a clip.

    Attributes:
        start_s: Since the clip's start.
        end_s: The next segment starts there.
        predictions: Best first; none where there is neither picture nor sound.
        tracks: Which were used.
        unknown: 0..1, how likely it is that none of the labels fits; None where that can't be told.
    """

    start_s: float
    end_s: float
    predictions: tuple[Prediction, ...]
    tracks: Tracks
    unknown: float | None

    @classmethod
    def read(cls, document: Document) -> Self:
        """From JSON."""
        return cls(
            start_s=document["start_s"],
            end_s=document["end_s"],
            predictions=tuple(map(Prediction.read, document["predictions"])),
            tracks=Tracks.read(document["tracks"]),
            unknown=document["unknown"],
        )


@dataclass(frozen=True)
class Answer:
    """The ranked answer for one clip.

    Attributes:
        id: Id of the request.
        bundle: Name of the bundle that was used, and below its version and what must be known of it.
        label_set: The label set that was used, or None.
        n_labels: Candidates that were ranked.
        predictions: Best first.
        tracks: Which were used, and why one was not.
        unknown: 0..1, how likely it is that none of the labels fits; None where that can't be told.
        duration_s: Of the clip.
        calibration: Beta that was added to the distances of seen classes.
        segments: From the clip's start to its end without a gap; None unless segment_s was sent.
        warnings: Sentences for the user.
        timings_ms: Wall time of each step.
        document: The whole answer as it was sent.
    """

    id: str
    bundle: str
    bundle_version: str
    bundle_notice: str | None
    label_set: str | None
    n_labels: int
    predictions: tuple[Prediction, ...]
    tracks: Tracks
    unknown: float | None
    duration_s: float
    calibration: float
    segments: tuple[Segment, ...] | None
    warnings: tuple[str, ...]
    timings_ms: Mapping[str, float]
    document: Document = field(repr=False, compare=False)

    @property
    def best(self) -> Prediction:
        """The first prediction."""
        return self.predictions[0]

    @classmethod
    def read(cls, document: Document) -> Self:
        """From JSON."""
        segments = document["segments"]
        nested = {
            "predictions": tuple(map(Prediction.read, document["predictions"])),
            "tracks": Tracks.read(document["tracks"]),
            "segments": None if segments is None else tuple(map(Segment.read, segments)),
            "warnings": tuple(document["warnings"]),
            "document": document,
        }
        plain = {one.name: document[one.name] for one in fields(cls) if one.name not in nested}
        return cls(**plain | nested)


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
class JobClip(_Flat):
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
class Metric(_Flat):
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
class Limits(_Flat):
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
