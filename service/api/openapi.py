"""The OpenAPI document: what FastAPI writes, with the bodies and errors that it does not see itself."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from service import errors
from service.api.guard.scopes import Need, need_of
from service.api.intake.body import FILE_FIELD, FILES_FIELD
from service.api.problems import MEDIA_TYPE, STATUS
from service.api.schemas import (
    ClassifyForm,
    ClassifyJson,
    ClassifyLine,
    JobForm,
    LabelsBody,
    LabelSetBody,
    Problem,
    ProblemLine,
    without_null,
)

_SCHEMA_REF = "#/components/schemas/{model}"


def request_body(form: type[BaseModel], media_type: str = "application/json") -> dict[str, Any]:
    """`openapi_extra` of a route that reads its body itself."""
    schema = {"$ref": _SCHEMA_REF.format(model=form.__name__)}
    return {"requestBody": {"required": True, "content": {media_type: {"schema": schema}}}}


def classify_bodies() -> dict[str, Any]:
    """`openapi_extra` of the address that takes a clip in any way: as a form, as the body itself, in JSON.

    All fields but the clip may be in the query too, where they are for a body that is the clip.
    """
    form = ClassifyForm.model_json_schema()
    content = {
        "multipart/form-data": {"schema": {"$ref": _SCHEMA_REF.format(model="ClassifyForm")}},
        "application/json": {"schema": {"$ref": _SCHEMA_REF.format(model="ClassifyJson")}},
        "application/octet-stream": {
            "schema": {
                "type": "string",
                "format": "binary",
                "description": "The clip itself; also as video/*, audio/* or image/*.",
            }
        },
    }
    query = [
        {
            "name": name,
            "in": "query",
            "required": False,
            "description": f"{field['description']} In place of the same field of a body.",
            "schema": {key: value for key, value in field.items() if key not in ("description", "examples")},
        }
        for name, field in form["properties"].items()
        if name not in (FILE_FIELD, FILES_FIELD)
    ]
    return {"requestBody": {"required": True, "content": content}, "parameters": query}


def lines_schema() -> dict[str, Any]:
    """What each line of an answer for several clips is."""
    return {"anyOf": [{"$ref": _SCHEMA_REF.format(model=m.__name__)} for m in (ClassifyLine, ProblemLine)]}


def documented(*kinds: type[errors.AhseError]) -> dict[int | str, dict[str, Any]]:
    """OpenAPI's `responses` for errors that an address may answer with, each kind with all below it."""
    codes: dict[HTTPStatus, list[str]] = {}
    for kind, status in STATUS.items():
        if issubclass(kind, kinds):
            codes.setdefault(status, []).append(kind.code)
    schema = {"schema": {"$ref": "#/components/schemas/Problem"}}
    return {
        int(status): {
            "description": f"{status.phrase}: {', '.join(sorted(found))}",
            "content": {MEDIA_TYPE: schema},
        }
        for status, found in sorted(codes.items())
    }


def openapi_of(app: FastAPI, needs_key: Callable[[], bool]) -> Callable[[], dict[str, Any]]:
    """A replacement for app.openapi; the document is made once, when it is first asked for.

    Args:
        app: The application.
        needs_key: Whether requests need a key now.
    """
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _completed(generate())
        # An empty alternative means: none is needed.
        return {**app.openapi_schema, "security": [*_KEYS_ARE_SENT, *([] if needs_key() else [{}])]}

    return openapi


def _completed(document: dict[str, Any]) -> dict[str, Any]:
    models = (
        Problem,
        ClassifyForm,
        ClassifyJson,
        ClassifyLine,
        ProblemLine,
        JobForm,
        LabelsBody,
        LabelSetBody,
    )
    forms = [(form, "validation") for form in models]
    _, definitions = models_json_schema(forms, ref_template=_SCHEMA_REF)  # type: ignore[arg-type]
    schemas = document["components"]["schemas"]
    schemas |= definitions["$defs"]
    # FastAPI's own error bodies are never sent.
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            for parameter in operation.get("parameters", []):
                without_null(parameter["schema"])
            if "HTTPValidationError" in str(operation["responses"].get("422")):
                del operation["responses"]["422"]
            _add_access(operation, need_of(f"{method.upper()} {path}"), has_body="requestBody" in operation)
    document["components"]["securitySchemes"] = {
        "bearer": {"type": "http", "scheme": "bearer", "description": "An API key."},
        "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "An API key."},
    }
    return document


_KEYS_ARE_SENT: tuple[dict[str, list[str]], ...] = ({"bearer": []}, {"apiKey": []})
_REFUSALS = (
    errors.UnauthenticatedError,
    errors.ForbiddenError,
    errors.HostNotAllowedError,
    errors.OriginNotAllowedError,
    errors.RateLimitedError,
)


def _add_access(operation: dict[str, Any], need: Need, *, has_body: bool) -> None:
    """What an operation needs, and how it refuses who lacks it."""
    if need == "nothing":
        operation["security"] = []
        return
    scope = "any API key" if need == "any key" else f"an API key with the scope `{need}`"
    operation["description"] = f"{operation.get('description', '')}\n\nNeeds {scope}.".strip()
    responses = operation["responses"]
    for status, refusal in documented(*_REFUSALS, *([errors.QuotaExceededError] if has_body else [])).items():
        known = responses.setdefault(str(status), refusal)
        if known is not refusal:
            known["description"] += refusal["description"].replace(f"{HTTPStatus(int(status)).phrase}:", ",")
