"""What a request asks of one clip: one model for forms, the command line and the OpenAPI document."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from service import option_texts as texts
from service.errors import InvalidOptionError
from service.labels.label import MAX_TEMPLATE_CHARACTERS, MAX_TEMPLATES, check_templates
from service.media import FrameChoice

_Options = TypeVar("_Options", bound="ClassifyOptions")


# Without control characters, apart from those that count as spaces.
_PRINTABLE = r"[^\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f]*"


def documented_text(max_characters: int, holds: str = "") -> WithJsonSchema:
    """How a text is documented, as far as JSON Schema can tell; `clean_text` in labels/label.py checks it.

    Args:
        max_characters: Maximum, after normalisation.
        holds: Pattern of what it must contain.
    """
    pattern = f"^{_PRINTABLE}{holds}{_PRINTABLE if holds else ''}$"
    return WithJsonSchema({"type": "string", "minLength": 1, "maxLength": max_characters, "pattern": pattern})


Template = Annotated[str, documented_text(MAX_TEMPLATE_CHARACTERS, r"\{\}")]
Templates = Annotated[
    tuple[Template, ...], Field(fail_fast=True, json_schema_extra={"minItems": 1, "maxItems": MAX_TEMPLATES})
]


def _plain(pattern: str) -> BeforeValidator:
    """Text must be written plainly: Python would also read 1_000, ' 5', 1e3 and nan."""

    def check(value: object) -> object:
        if isinstance(value, str) and not re.fullmatch(pattern, value):
            raise ValueError("not plain")
        return value

    return BeforeValidator(check)


Beta = (
    Literal["auto", "off"]
    | Annotated[
        float, Field(ge=0, le=texts.MAX_BETA), _plain(r"[0-9]{1,7}(\.[0-9]{1,20})?([eE]-[0-9]{1,3})?")
    ]
)
"""Calibrated stacking: the bundle's beta, none, or a number."""
SegmentLength = (
    Literal["auto"]
    | Annotated[
        float, Field(ge=texts.MIN_SEGMENT_S, le=texts.MAX_SEGMENT_S), _plain(r"[0-9]{1,3}(\.[0-9]{1,20})?")
    ]
)
"""Seconds; `auto` is the length of the window that the bundle's audio encoder takes."""


Guarantee = Annotated[
    float, Field(ge=texts.MIN_GUARANTEE, le=texts.MAX_GUARANTEE), _plain(r"0?\.[0-9]{1,20}")
]
"""How often one of the names must be right."""


class ClassifyOptions(BaseModel):
    """How one clip is classified, whatever the clip and the candidate names are."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_by_name=True, validate_by_alias=True)

    templates: Annotated[Templates | None, texts.TEMPLATES] = Field(
        default=None, description=texts.TEMPLATES.description, examples=[["a video of a {}."]]
    )
    top_k: Annotated[
        Annotated[int, Field(ge=1, le=texts.MAX_TOP_K), _plain("[0-9]{1,7}")] | None, texts.TOP_K
    ] = Field(default=None, description=f"{texts.TOP_K.description} Default: all.")
    beta: Annotated[Beta, texts.BETA] = Field(
        default="auto", alias="calibration", description=texts.BETA.description
    )
    guarantee: Annotated[Guarantee | None, texts.GUARANTEE] = Field(
        default=None, description=texts.GUARANTEE.description, examples=[0.9]
    )
    segment_s: Annotated[SegmentLength | None, texts.SEGMENT_S] = Field(
        default=None, description=texts.SEGMENT_S.description, examples=[10]
    )
    frames: Annotated[FrameChoice | None, texts.FRAMES] = Field(
        default=None, description=f"{texts.FRAMES.description} Default: as the deployment is set."
    )
    audio_windows: Annotated[
        Annotated[int, Field(ge=1, le=texts.MAX_AUDIO_WINDOWS), _plain("[0-9]{1,4}")] | None,
        texts.AUDIO_WINDOWS,
    ] = Field(
        default=None,
        description=f"{texts.AUDIO_WINDOWS.description} Default: as many as a minute has.",
        examples=[16],
    )

    @field_validator("templates")
    @classmethod
    def _have_a_place_for_the_name(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        return None if value is None else check_templates(value)

    @model_validator(mode="after")
    def _guarantee_what_was_measured(self) -> Self:
        if self.guarantee is not None and self.beta != "auto":
            raise InvalidOptionError(
                "A guarantee holds with the bundle's own calibration: leave one of both out."
            )
        return self

    def guarantee_or(self, of_label_set: float | None) -> float | None:
        """The guarantee to give: its own, else that of the label set, unless it has its own calibration."""
        return self.guarantee or (of_label_set if self.beta == "auto" else None)


def read_options(values: Mapping[str, Any], model: type[_Options]) -> _Options:
    """Check options as they were sent: text, or lists of text.

    Raises:
        InvalidOptionError: A value is not acceptable; says what would be.
        InvalidTemplateError: A template is not.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        name = str(error.errors()[0]["loc"][0])
        raise InvalidOptionError(f"{name} must be {_what_it_takes(model, name)}.") from None


def _what_it_takes(model: type[ClassifyOptions], name: str) -> str:
    field = next(field for key, field in model.model_fields.items() if name in (key, field.alias))
    return next(one.takes for one in field.metadata if isinstance(one, texts.OptionText))
