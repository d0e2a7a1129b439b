"""JSON bodies, read beside the event loop, and their faults in our own words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError

from service.errors import InvalidRequestError, MalformedBodyError

Body = TypeVar("Body", bound=BaseModel)

_MAX_FAULTS = 10
_WORDS = {
    "missing": "is missing",
    "extra_forbidden": "is not a known field",
    "string_type": "must be a string",
    "int_parsing": "must be a whole number",
    "list_type": "must be a list",
    "model_type": "must be an object",
    "dict_type": "must be an object",
    "too_long": "has too many items",
    "string_too_long": "is too long",
    "greater_than_equal": "is too small",
    "less_than_equal": "is too large",
}


async def read_body(request: Request) -> bytes:
    """The raw bytes of a JSON body.

    Raises:
        MalformedBodyError: the Content-Type says that it is something else.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise MalformedBodyError("Send JSON, with the header Content-Type: application/json.")
    return await request.body()


def parse_body(raw: bytes, form: type[Body]) -> Body:
    """Read bytes as JSON of a form.

    Raises:
        MalformedBodyError: not JSON.
        InvalidRequestError: JSON of another form.
    """
    try:
        return form.model_validate_json(raw)
    except ValidationError as error:
        faults = error.errors(include_url=False, include_input=False)
        if faults[0]["type"] == "json_invalid":
            raise MalformedBodyError("The body is not valid JSON.") from error
        raise InvalidRequestError(describe_faults(faults)) from error


def describe_faults(faults: Sequence[Mapping[str, Any]]) -> str:
    """What is wrong and where, without the validator's own texts."""
    found: dict[str, list[str]] = {}
    for fault in faults:
        words = found.setdefault(_where(fault["loc"]), [])
        word = _WORDS.get(fault["type"], "is not acceptable")
        if word not in words:
            words.append(word)
    lines = [f"{where} {' or '.join(words)}" for where, words in found.items()]
    return "The request does not have the documented form: " + "; ".join(lines[:_MAX_FAULTS])


def _where(path: Sequence[str | int]) -> str:
    """Names of fields and numbers of items; the names of alternatives of a union are left out."""
    parts = [str(part) for part in path if isinstance(part, int) or (part.islower() and part != "str")]
    return ".".join(parts) or "the body"
