"""The OpenAPI document: what FastAPI writes, with the bodies and errors that it does not see itself."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from service import errors
from service.api.embeddings import EmbeddingsBody, EmbeddingsForm
from service.api.examples import EXAMPLES
from service.api.forms import ClassifyForm, ClassifyJson, JobForm, without_null
from service.api.guard.scopes import Need, need_of
from service.api.headers import REQUEST_ID_HEADER
from service.api.intake.body import FILE_FIELD, FILES_FIELD
from service.api.problems import MEDIA_TYPE, STATUS, problem_body
from service.api.schemas import (
    ClassifyLine,
    LabelsBody,
    LabelSetBody,
    Problem,
    ProblemLine,
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


def embedding_bodies() -> dict[str, Any]:
    """`openapi_extra` of the address that embeds texts and clips."""
    content = {
        "application/json": {"schema": {"$ref": _SCHEMA_REF.format(model="EmbeddingsBody")}},
        "multipart/form-data": {"schema": {"$ref": _SCHEMA_REF.format(model="EmbeddingsForm")}},
    }
    return {"requestBody": {"required": True, "content": content}}


def lines_schema() -> dict[str, Any]:
    """What each line of an answer for several clips is."""
    return {"anyOf": [{"$ref": _SCHEMA_REF.format(model=m.__name__)} for m in (ClassifyLine, ProblemLine)]}


def documented(*kinds: type[errors.AhseError]) -> dict[int | str, dict[str, Any]]:
    """OpenAPI's `responses` for errors that an address may answer with, each kind with all below it."""
    found: dict[HTTPStatus, dict[str, type[errors.AhseError]]] = {}
    for kind, status in STATUS.items():
        if issubclass(kind, kinds):
            found.setdefault(status, {})[kind.code] = kind
    return {
        int(status): {
            "description": f"{status.phrase}: {', '.join(sorted(of_status))}",
            "content": {
                MEDIA_TYPE: {
                    "schema": {"$ref": "#/components/schemas/Problem"},
                    "examples": {code: _example(status, of_status[code]) for code in sorted(of_status)},
                }
            },
        }
        for status, of_status in sorted(found.items())
    }


def _example(status: HTTPStatus, kind: type[errors.AhseError]) -> dict[str, Any]:
    """A problem of this kind; its docstring stands for the text, which depends on the request."""
    meaning = (inspect.getdoc(kind) or "").partition("\n\n")[0].replace("\n", " ")
    body = problem_body(status, kind.code, meaning)
    return {"value": {**body, "instance": "/v1/...", "request_id": _REQUEST_ID}}


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
        EmbeddingsBody,
        EmbeddingsForm,
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
            place = f"{method.upper()} {path}"
            _add_access(operation, need_of(place), has_body="requestBody" in operation)
            _add_headers(operation, _HEADERS_OF.get(place, {}))
    for name, example in EXAMPLES.items():
        schemas[name]["examples"] = [example]
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
            known["content"] = {MEDIA_TYPE: _merged(known, refusal)}


def _merged(known: dict[str, Any], refusal: dict[str, Any]) -> dict[str, Any]:
    """A new value, since routes share the values that they have from their router."""
    ours, theirs = (response["content"][MEDIA_TYPE] for response in (known, refusal))
    return {**ours, "examples": {**ours["examples"], **theirs["examples"]}}


_REQUEST_ID = "7d0f3a9c2b1e4d5f6a7b8c9d"
# By name: what it holds, and an example.
_HEADERS: Mapping[str, tuple[str, str]] = {
    REQUEST_ID_HEADER: (
        "Id of the request, which the log has too: the one that was sent, or a new one.",
        _REQUEST_ID,
    ),
    "ETag": (
        "Changes with what was read: send it as If-Match or If-None-Match.",
        '"0f4c6a0f1d2b3e4f5a6b7c8d"',
    ),
    "Location": ("Address of what is new.", "/v1/label-sets/mine"),
    "Server-Timing": ("Milliseconds of each step.", "upload;dur=1.9, decode;dur=31.0, encode;dur=22.5"),
    "Retry-After": ("Seconds after which it may be tried again.", "5"),
    "WWW-Authenticate": ("How a key is sent.", 'Bearer realm="ahse"'),
}
_HEADERS_OF_STATUS = {"401": ("WWW-Authenticate",), **dict.fromkeys(("429", "503", "504"), ("Retry-After",))}
_HEADERS_OF: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "POST /v1/classify": {"200": ("Server-Timing",)},
    "POST /v1/jobs": {"202": ("Location",)},
    "GET /v1/jobs/{job_id}": {"200": ("ETag",), "304": ("ETag",)},
    "GET /v1/label-sets/{name}": {"200": ("ETag",), "304": ("ETag",)},
    "PUT /v1/label-sets/{name}": {"200": ("ETag",), "201": ("ETag", "Location")},
    "POST /v1/label-sets/{name}/labels": {"200": ("ETag",)},
    "DELETE /v1/label-sets/{name}/labels/{label}": {"200": ("ETag",)},
}


def _add_headers(operation: dict[str, Any], own: Mapping[str, tuple[str, ...]]) -> None:
    """The headers of each response: those of its status, and those of the operation's own."""
    for status, response in operation["responses"].items():
        names = (*own.get(status, ()), *_HEADERS_OF_STATUS.get(status, ()), REQUEST_ID_HEADER)
        documented_here = response.get("headers", {})
        response["headers"] = {**{name: _header(*_HEADERS[name]) for name in names}, **documented_here}


def _header(holds: str, example: str) -> dict[str, Any]:
    return {"description": holds, "schema": {"type": "string", "examples": [example]}}
