"""What is sent with clips: the fields of forms, and how they are described in /openapi.json."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from service import option_texts as texts
from service.api.intake.body import MAX_FILES
from service.labels.label import MAX_NAME_CHARACTERS
from service.labels.store import LabelSet
from service.media import FrameChoice
from service.options import ClassifyOptions, documented_text


def without_null(schema: dict[str, Any]) -> None:
    """Describe a value that is sent as text, which null can't be: that of a header, a query or a form."""
    kinds = [kind for kind in schema.pop("anyOf", []) if kind != {"type": "null"}]
    schema |= kinds[0] if len(kinds) == 1 else {"anyOf": kinds} if kinds else {}
    if schema.get("default", ...) is None:
        del schema["default"]


def clip_parts(how_several: str) -> dict[str, Any]:
    """Parts of a form that are clips: one, or several, and how these are answered."""
    binary = {"type": "string", "format": "binary"}
    return {
        "file": {**binary, "description": "The clip: any common container, or an image."},
        "files": {
            "type": "array",
            "items": binary,
            "minItems": 1,
            "maxItems": MAX_FILES,
            "description": f"Several clips in place of one: the part repeated. {how_several}",
        },
    }


def _with_clip(schema: dict[str, Any], clip: dict[str, Any]) -> None:
    """Describe fields that are sent with a clip, or the URL of one, and with labels or the name of a set."""
    schema["properties"] = {**clip, **schema["properties"]}
    schema["allOf"] = [
        {"oneOf": [{"required": [one]} for one in names]}
        for names in ((*clip, "url"), ("labels", "label_set"))
    ]
    schema["properties"]["labels"] |= {"minItems": 1}
    del schema["properties"]["labels"]["default"]


def _as_form(schema: dict[str, Any]) -> None:
    """Describe the form as it is sent, which null can't be."""
    for field in schema["properties"].values():
        without_null(field)
    _with_clip(schema, clip_parts("Each has its own line of JSON."))


def _as_json(schema: dict[str, Any]) -> None:
    """Describe the JSON object. Null is the same as leaving a member out."""
    for name in ("label_set", "url"):
        without_null(schema["properties"][name])
    clip = {
        "type": "string",
        "contentEncoding": "base64",
        "description": "The clip in base64, or as a data: URL. The body has the limit of other JSON bodies.",
    }
    _with_clip(schema, {"file": clip})


class ClassifyForm(ClassifyOptions):
    """What is sent with a clip: the names to choose from, and how."""

    model_config = ConfigDict(title="Clip and candidate names", json_schema_extra=_as_form)

    labels: Annotated[list[Annotated[str, documented_text(MAX_NAME_CHARACTERS)]], texts.LABELS] = Field(
        default=[],
        description=texts.LABELS.description,
        examples=[["star with a bell", "ring with a drum"]],
    )
    label_set: Annotated[str | None, texts.LABEL_SET] = Field(
        default=None, description=texts.LABEL_SET.description
    )
    bundle: Annotated[str | None, texts.BUNDLE] = Field(default=None, description=texts.BUNDLE.description)
    returned: Annotated[Literal["json", "srt", "vtt", "csv"], texts.RETURNED] = Field(
        default="json", alias="return", description=texts.RETURNED.description
    )
    url: Annotated[str | None, texts.URL] = Field(
        default=None,
        description=texts.URL.description,
        json_schema_extra={"format": "uri"},
        examples=["https://clips.example/dog.mp4"],
    )

    def options(self, label_set: LabelSet | None, frames: FrameChoice) -> ClassifyOptions:
        """The options alone, with what stands in for those that were not sent.

        Args:
            label_set: The set whose labels are ranked; None: labels were sent.
            frames: Those of the deployment.
        """
        sent = {name: getattr(self, name) for name in ClassifyOptions.model_fields}
        templates = None if label_set is None else label_set.templates
        guarantee = None if label_set is None else label_set.guarantee
        stand_in = {
            "templates": self.templates or templates,
            "guarantee": self.guarantee_or(guarantee),
            "segment_s": "auto" if self.segment_s is None and self.returned != "json" else self.segment_s,
            "frames": self.frames or frames,
        }
        return ClassifyOptions.model_validate(sent | stand_in)


class ClassifyJson(ClassifyForm):
    """The same in JSON, with the clip in base64."""

    model_config = ConfigDict(title="Clip in base64 and candidate names", json_schema_extra=_as_json)


def _as_job(schema: dict[str, Any]) -> None:
    """Describe the form of a job, whose results are always JSON."""
    _as_form(schema)
    del schema["properties"]["return"]
    schema["dependentRequired"] = {"webhook": ["webhook_secret"], "webhook_secret": ["webhook"]}


class JobForm(ClassifyForm):
    """One clip or several, what is asked of each, and where to report the end."""

    model_config = ConfigDict(title="Clips of a job", json_schema_extra=_as_job)

    webhook: str | None = Field(
        default=None,
        description="Public http or https URL to which the end of the job is reported, where the deployment "
        "allows it (AHSE_WEBHOOKS).",
        json_schema_extra={"format": "uri"},
        examples=["https://hooks.example/ahse"],
    )
    webhook_secret: str | None = Field(
        default=None,
        description="Signs the report: whsec_ and base64 of 24 to 64 bytes (standardwebhooks.com).",
        json_schema_extra={"pattern": "^whsec_[A-Za-z0-9+/]{32,88}={0,2}$"},
    )
