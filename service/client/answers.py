"""The ranked answer for a clip, as frozen dataclasses. Their fields are those of /openapi.json.

Fields that a newer service adds are left out here; `Answer.document` has them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Self

Document = Mapping[str, Any]
"""A JSON object."""


@dataclass(frozen=True)
class Flat:
    """A value whose fields are plain JSON values."""

    @classmethod
    def read(cls, document: Document) -> Self:
        """Take the fields that the value has; KeyError when one is missing."""
        return cls(**{one.name: document[one.name] for one in fields(cls)})


@dataclass(frozen=True)
class TrackScore(Flat):
    """What one track alone says of a candidate.

    Attributes:
        similarity: Cosine of the track's feature and the name's text feature.
        score: Share among the candidates by this track alone.
    """

    similarity: float
    score: float


@dataclass(frozen=True)
class Prediction:
    """One candidate.

    Attributes:
        rank: 1 is the best.
        label: Its name.
        score: Share among the candidates; all of them sum to 1.
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
class TrackUse(Flat):
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
class Agreement(Flat):
    """Whether picture and sound show the same of the candidates.

    Attributes:
        score: 0..1, how likely it is that they do; near 0.5 where one of them tells nothing.
        visual: Label that comes first by the picture alone.
        audio: Label that comes first by the sound alone.
        surer: `visual` or `audio`, whose first label is likelier by it alone.
    """

    score: float
    visual: str
    audio: str
    surer: str


@dataclass(frozen=True)
class Tracks:
    """Both tracks of a clip, or of a segment.

    Attributes:
        visual: Whether the picture was used.
        audio: Whether the sound was used.
        agreement: Whether they agree; None with one track or one label, and where that can't be told.
    """

    visual: TrackUse
    audio: TrackUse
    agreement: Agreement | None

    @classmethod
    def read(cls, document: Document) -> Self:
        """From JSON."""
        found = document.get("agreement")
        return cls(
            visual=TrackUse.read(document["visual"]),
            audio=TrackUse.read(document["audio"]),
            agreement=None if found is None else Agreement.read(found),
        )


@dataclass(frozen=True)
class Guarantee:
    """Names of which one is right about as often as was asked for, for the whole clip.

    Attributes:
        level: 0.5..0.99, how often it holds on average.
        labels: One of these is right, best first; None: none of the candidates may be excluded.
        holds_for: Which clips and labels it holds for, or why nothing is guaranteed.
    """

    level: float
    labels: tuple[str, ...] | None
    holds_for: str

    @classmethod
    def read(cls, document: Document) -> Self:
        """From JSON."""
        labels = document["labels"]
        return cls(document["level"], None if labels is None else tuple(labels), document["holds_for"])


@dataclass(frozen=True)
class Used:
    """A value with the times of what was used of a clip."""

    @classmethod
    def read(cls, document: Document) -> Self:
        """From JSON."""
        times = {
            "frame_times_s": tuple(document["frame_times_s"]),
            "audio_windows_s": tuple((start, end) for start, end in document["audio_windows_s"]),
        }
        return cls(**{one.name: document[one.name] for one in fields(cls)} | times)


@dataclass(frozen=True)
class SegmentReceipt(Used):
    """What of the clip was used for a segment, on the same clocks as for the whole clip.

    Attributes:
        frame_times_s: Frames that were looked at, since the clip's first frame.
        audio_windows_s: Start and end of each piece of sound that was listened to, since the sound starts.
    """

    frame_times_s: tuple[float, ...]
    audio_windows_s: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Receipt(Used):
    """What of which clip was used for its ranking as a whole.

    Attributes:
        clip_sha256: Of the file.
        frame_times_s: Frames that were looked at, since the clip's first frame.
        audio_windows_s: Start and end of each piece of sound that was listened to, since the sound starts.
    """

    clip_sha256: str
    frame_times_s: tuple[float, ...]
    audio_windows_s: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Segment:
    """The ranked answer for one segment of a clip.

    Attributes:
        start_s: Since the clip's start.
        end_s: The next segment starts there.
        predictions: Best first; none where there is neither picture nor sound.
        tracks: Which were used.
        unknown: 0..1, how likely it is that none of the labels fits; None where that can't be told.
        receipt: What was used for it; None from a service that does not tell.
    """

    start_s: float
    end_s: float
    predictions: tuple[Prediction, ...]
    tracks: Tracks
    unknown: float | None
    receipt: SegmentReceipt | None = None

    @classmethod
    def read(cls, document: Document) -> Self:
        """From JSON."""
        receipt = document.get("receipt")
        return cls(
            start_s=document["start_s"],
            end_s=document["end_s"],
            predictions=tuple(map(Prediction.read, document["predictions"])),
            tracks=Tracks.read(document["tracks"]),
            unknown=document["unknown"],
            receipt=None if receipt is None else SegmentReceipt.read(receipt),
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
        guarantee: What was asked for, or None; None too from a service that has none yet.
        receipt: What of which clip was used; None from a service that does not tell.
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
    guarantee: Guarantee | None
    receipt: Receipt | None
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
        segments, kept = document["segments"], document.get("guarantee")
        receipt = document.get("receipt")
        nested = {
            "predictions": tuple(map(Prediction.read, document["predictions"])),
            "tracks": Tracks.read(document["tracks"]),
            "guarantee": None if kept is None else Guarantee.read(kept),
            "receipt": None if receipt is None else Receipt.read(receipt),
            "segments": None if segments is None else tuple(map(Segment.read, segments)),
            "warnings": tuple(document["warnings"]),
            "document": document,
        }
        plain = {one.name: document[one.name] for one in fields(cls) if one.name not in nested}
        return cls(**plain | nested)
