"""Answers, errors and bodies in JSON, as documented in /openapi.json."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from service import option_texts as texts
from service.labels.label import MAX_NAME_CHARACTERS, MAX_PROMPT_CHARACTERS, MAX_PROMPTS
from service.options import Templates, documented_text


class Wire(BaseModel):
    """What is sent or received: nothing unknown, and read-only."""

    model_config = ConfigDict(frozen=True, extra="forbid")


# No object that is sent has more: each that is not known would be a fault of its own.
_MAX_MEMBERS = 100


class Received(Wire):
    """What is received as JSON."""

    @model_validator(mode="before")
    @classmethod
    def _has_few_members(cls, value: object) -> object:
        if isinstance(value, dict) and len(value) > _MAX_MEMBERS:
            raise ValueError(f"an object here has {_MAX_MEMBERS} members at most")
        return value


class OpenAiError(BaseModel):
    """An error as OpenAI's clients read it."""

    message: str = Field(examples=["no bundle is named 'x'; loaded are: everyday"])
    type: str = Field(examples=["invalid_request_error"])
    code: str = Field(examples=["unknown_bundle"])
    param: str | None = Field(examples=["model"])


class Problem(BaseModel):
    """An error (RFC 9457)."""

    type: str = Field(examples=["urn:ahse:problem:no_labels"])
    title: str = Field(examples=["Unprocessable Content"])
    status: int = Field(examples=[422])
    code: str = Field(description="stable; branch on this", examples=["no_labels"])
    detail: str = Field(examples=["no labels were given; send at least one candidate name"])
    instance: str = Field(examples=["/v1/classify"])
    request_id: str = Field(examples=["7d0f3a9c2b1e4d5f6a7b8c9d"])
    error: OpenAiError | None = Field(
        default=None, description="the same for OpenAI's clients: at /v1/embeddings and /v1/models only"
    )


class TrackScore(Wire):
    """What one track alone says of a candidate."""

    similarity: float = Field(description="cosine of the track's feature and the name's text feature")
    score: float = Field(description="share among the candidates by this track alone")


class Prediction(Wire):
    """One candidate."""

    rank: int = Field(ge=1)
    label: str
    score: float = Field(
        description="share among the candidates: softmax of the negative distances, no calibrated "
        "probability; all of them sum to 1"
    )
    distance: float = Field(
        description="smaller is better; what the ranking goes by, with beta of seen classes"
    )
    seen: bool = Field(description="the bundle's head was trained on this class")
    visual: TrackScore | None = Field(description="null when no picture was used")
    audio: TrackScore | None = Field(description="null when no sound was used")


class TrackUse(Wire):
    """Whether a track was used, and why not."""

    used: bool
    reason: str | None = Field(description="stable code when it was not used", examples=["no_stream"])
    detail: str = Field(description="what was used, or why it was not, in words")


class Agreement(Wire):
    """Whether picture and sound show the same of these candidates."""

    score: float = Field(
        description="0..1: how likely it is that both show the same, if that was as likely as not before; "
        "near 0.5 where one of them tells nothing"
    )
    visual: str = Field(description="label that comes first by the picture alone")
    audio: str = Field(description="label that comes first by the sound alone")
    surer: Literal["visual", "audio"] = Field(description="track whose first label is likelier by it alone")


class Tracks(Wire):
    """Both tracks of the clip, or of a segment."""

    visual: TrackUse
    audio: TrackUse
    agreement: Agreement | None = Field(
        description="null with one track or one label, and where the bundle can't tell"
    )


class Guarantee(Wire):
    """Names of which one is right about as often as was asked for, for the whole clip."""

    level: float = Field(description="0.5..0.99: how often it holds on average")
    labels: list[str] | None = Field(
        description="one of these is right, best first; null: none of the candidates may be excluded"
    )
    holds_for: str = Field(description="which clips and labels it holds for, or why nothing is guaranteed")


class Receipt(Wire):
    """What of which clip was used for its ranking as a whole."""

    clip_sha256: str = Field(description="of the file")
    frame_times_s: list[float] = Field(description="frames that were looked at, since the first frame")
    audio_windows_s: list[tuple[float, float]] = Field(
        description="start and end of each piece of sound that was listened to, since the start of the sound"
    )


class SegmentReceipt(Wire):
    """What of the clip was used for a segment, on the same clocks as for the whole clip."""

    frame_times_s: list[float] = Field(description="frames that were looked at, since the clip's first frame")
    audio_windows_s: list[tuple[float, float]] = Field(
        description="start and end of each piece of sound that was listened to, since the start of the sound"
    )


class SegmentAnswer(Wire):
    """The ranked answer for one segment of the clip, by what it has of both tracks."""

    start_s: float = Field(description="since the clip's start")
    end_s: float = Field(description="the next segment starts there")
    predictions: list[Prediction] = Field(
        description="best first: top_k of them, 5 if it was not sent, 100 at most; "
        "none if the segment has neither picture nor sound"
    )
    tracks: Tracks
    unknown: float | None = Field(
        description="0..1: how likely it is that none of the labels fits; null where the head can't tell, "
        "and without predictions"
    )
    receipt: SegmentReceipt


class ClassifyResponse(Wire):
    """The ranked answer for one clip."""

    id: str = Field(description="the request's id")
    bundle: str
    bundle_version: str
    bundle_notice: str | None = Field(
        description="what everybody who reads this answer must know of the bundle; null if there is nothing"
    )
    label_set: str | None = Field(description="the label set that was used")
    n_labels: int = Field(description="candidates that were ranked")
    predictions: list[Prediction] = Field(description="best first, top_k of them")
    tracks: Tracks
    unknown: float | None = Field(
        description="0..1: how likely it is that none of the labels fits; null where the head can't tell"
    )
    guarantee: Guarantee | None = Field(description="null unless it was asked for")
    receipt: Receipt
    duration_s: float = Field(description="of the clip")
    calibration: float = Field(description="beta that was added to the distances of seen classes")
    segments: list[SegmentAnswer] | None = Field(
        description="from the clip's start to its end without a gap; null unless segment_s was sent"
    )
    warnings: list[str]
    timings_ms: dict[str, float] = Field(
        description="wall time of each step", examples=[{"upload": 1.9, "decode": 31.0, "encode": 22.5}]
    )


class ClassifyLine(ClassifyResponse):
    """The answer for one of several clips, on a line of its own."""

    index: int = Field(ge=0, description="place of the clip among the parts `files`")


class ProblemLine(Problem):
    """Why one of several clips has no answer, on a line of its own."""

    index: int = Field(ge=0, description="place of the clip among the parts `files`")


class LabelBody(Received):
    """A label with prompts of its own."""

    name: Annotated[str, documented_text(MAX_NAME_CHARACTERS)] = Field(
        max_length=4 * MAX_NAME_CHARACTERS, examples=["siren"]
    )
    prompts: list[
        Annotated[str, Field(max_length=4 * MAX_PROMPT_CHARACTERS), documented_text(MAX_PROMPT_CHARACTERS)]
    ] = Field(
        default=[],
        max_length=MAX_PROMPTS,
        description="texts that stand for the label instead of the templates",
        examples=[["the wail of an ambulance siren"]],
    )


class LabelsBody(Received):
    """Labels to add."""

    labels: list[Annotated[str, documented_text(MAX_NAME_CHARACTERS)] | LabelBody] = Field(
        fail_fast=True,  # else each of millions would be a fault of its own
        examples=[["dog", {"name": "siren", "prompts": ["a wailing siren"]}]],
    )


class LabelSetBody(LabelsBody):
    """A whole label set."""

    templates: Templates | None = Field(
        default=None, description="prompt templates instead of the bundle's", examples=[["a video of a {}."]]
    )
    guarantee: Annotated[float, Field(strict=True, ge=texts.MIN_GUARANTEE, le=texts.MAX_GUARANTEE)] | None = (
        Field(
            default=None,
            description="for requests with the set that have neither one nor a calibration of their own",
            examples=[0.9],
        )
    )


class LabelSetSummary(Wire):
    """A stored label set without its labels."""

    name: str
    n_labels: int
    templates: list[str] | None
    guarantee: float | None = Field(description="of requests with this set that have none of their own")
    etag: str = Field(description="also in the ETag header; send it as If-Match to change what you have read")
    created: datetime
    updated: datetime = Field(description="when the etag changed last")


class LabelSet(LabelSetSummary):
    """A stored label set."""

    labels: list[LabelBody]


class LabelSetPage(Wire):
    """One page of label sets, in order of name."""

    label_sets: list[LabelSetSummary]
    next_cursor: str | None = Field(description="send as `cursor` for the next page; null on the last one")


class Metric(Wire):
    """One measured number of a bundle, with its data."""

    name: str
    value: float
    unit: str
    data: str


class Model(Wire):
    """A loaded bundle, in the shape of OpenAI's model list."""

    id: str
    object: Literal["model"] = "model"
    created: int = Field(description="Unix time at which the bundle was made")
    owned_by: str
    version: str
    description: str
    notice: str | None = Field(description="what everybody who reads its answers must know")
    digest: str = Field(description="changes with any byte of the bundle")
    default: bool
    provider: str = Field(description="execution provider of onnxruntime")
    seen_classes: list[str]
    metrics: list[Metric]


class ModelWithCard(Model):
    """A loaded bundle, with what its makers say of it."""

    card: str | None = Field(description="model card, Markdown; null if the bundle has none")


class ModelList(Wire):
    """All loaded bundles."""

    object: Literal["list"] = "list"
    data: list[Model]


class Limits(Wire):
    """What one request may ask."""

    max_upload_bytes: int
    max_json_bytes: int
    max_files: int = Field(description="clips in one request")
    max_labels: int
    max_labels_per_set: int
    max_duration_s: float
    max_segments: int


class Info(Wire):
    """The service itself."""

    name: Literal["ahse"] = "ahse"
    version: str
    default_bundle: str
    bundles: list[str]
    limits: Limits


class Live(Wire):
    """The process answers."""

    live: Literal[True] = True


class Ready(Wire):
    """The service can classify."""

    ready: Literal[True] = True
