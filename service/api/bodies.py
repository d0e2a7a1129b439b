"""Request bodies as checked values: forms and JSON. Faults are described in our own words."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError
from pydantic_core import from_json

from service.api.forms import ClassifyForm
from service.api.headers import media_type_of
from service.api.intake.body import FILE_FIELD, FILES_FIELD
from service.api.problems import wrong_form
from service.errors import (
    AmbiguousLabelsError,
    InvalidLabelError,
    InvalidOptionError,
    InvalidRequestError,
    MalformedBodyError,
)
from service.labels.label import check_lone_label
from service.options import read_options

Body = TypeVar("Body", bound=BaseModel)


async def read_body(request: Request) -> bytes:
    """The raw bytes of a JSON body.

    Raises:
        MalformedBodyError: The Content-Type says that it is something else.
    """
    if media_type_of(request.headers) != "application/json":
        raise MalformedBodyError("Send JSON, with the header Content-Type: application/json.")
    return await request.body()


def parse_body(raw: bytes, form: type[Body]) -> Body:
    """Read bytes as JSON of a form.

    Raises:
        MalformedBodyError: Not JSON.
        InvalidRequestError: JSON of another form.
    """
    try:
        document = from_json(raw)
    except ValueError:
        raise MalformedBodyError("The body is not valid JSON.") from None
    return check_form(document, form)


def check_form(document: object, form: type[Body]) -> Body:
    """What was sent as a checked value of a form.

    Raises:
        InvalidRequestError: It has another form.
    """
    try:
        return form.model_validate(document)
    except ValidationError as error:
        raise InvalidRequestError(wrong_form(error.errors(include_url=False, include_input=False))) from None


_LIST_FIELDS = ("labels", "templates")
_HOW_TO_SEND_LISTS = (
    "Send a list as repeated fields (-F labels=dog -F labels=cat) or as a JSON array "
    """(-F 'labels=["dog","cat"]'); send one name with a comma as a JSON array of one."""
)


def read_form(fields: Iterable[tuple[str, str]]) -> ClassifyForm:
    """Read the fields of a form that classifies a clip.

    Args:
        fields: Names and values in the order sent, without the file.

    Raises:
        InvalidOptionError: An unknown field, a field given twice, or a value that is not acceptable.
        LabelError: Labels or templates that are not acceptable.
    """
    values: dict[str, Any] = {}
    for name, sent in _group(fields).items():
        values[name] = _strings(name, sent) if name in _LIST_FIELDS else sent[0]
    if values.get("labels") and "label_set" in values:
        raise InvalidOptionError("Send either labels or label_set, not both.")
    return read_options(values, ClassifyForm)


def _group(fields: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    known = [field.alias or name for name, field in ClassifyForm.model_fields.items()]
    grouped: dict[str, list[str]] = {}
    for sent, value in fields:
        name = sent.removesuffix("[]") if sent.removesuffix("[]") in _LIST_FIELDS else sent
        if name not in known:
            fields_are = ", ".join([FILE_FIELD, FILES_FIELD, *sorted(known)])
            raise InvalidOptionError(f"There is no field {sent[:80]!r}; the fields are: {fields_are}.")
        grouped.setdefault(name, []).append(value)
    for name, values in grouped.items():
        if len(values) > 1 and name not in _LIST_FIELDS:
            raise InvalidOptionError(f"The field {name} was sent more than once.")
    return grouped


def _strings(name: str, values: Sequence[str]) -> list[str]:
    """Repeated plain values, or one JSON array. Nothing is ever split at commas: names may contain them."""
    if len(values) != 1:
        if any(value.lstrip().startswith("[") and value.rstrip().endswith("]") for value in values):
            raise AmbiguousLabelsError(
                f"{name} was sent several times and one value looks like a JSON array; send repeated plain "
                "values, or all of them in one JSON array"
            )
        return list(values)
    value = values[0].strip()
    if value.startswith("["):
        return _json_strings(name, value)
    if name == "labels":
        check_lone_label(value, _HOW_TO_SEND_LISTS)
    return [values[0]]


def _json_strings(name: str, value: str) -> list[str]:
    try:
        parsed = json.loads(value)
    except (ValueError, RecursionError):
        raise InvalidLabelError(
            f"{name} starts with [ but is not a JSON array of strings; "
            "send a name that starts with [ inside such an array"
        ) from None
    if not isinstance(parsed, list) or not all(isinstance(item, str) for item in parsed):
        raise InvalidLabelError(f"{name} must be a JSON array of strings")
    return parsed
