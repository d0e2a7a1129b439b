"""The OpenAPI document: what FastAPI writes, with the bodies and errors that it does not see itself."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from service import errors
from service.api.problems import MEDIA_TYPE, STATUS
from service.api.schemas import ClassifyForm, LabelsBody, LabelSetBody, Problem, without_null

_SCHEMA_REF = "#/components/schemas/{model}"


def request_body(form: type[BaseModel], media_type: str = "application/json") -> dict[str, Any]:
    """`openapi_extra` of a route that reads its body itself."""
    schema = {"$ref": _SCHEMA_REF.format(model=form.__name__)}
    return {"requestBody": {"required": True, "content": {media_type: {"schema": schema}}}}


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


def openapi_of(app: FastAPI) -> Callable[[], dict[str, Any]]:
    """A replacement for app.openapi; the document is made once, when it is first asked for."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _completed(generate())
        return app.openapi_schema

    return openapi


def _completed(document: dict[str, Any]) -> dict[str, Any]:
    forms = [(form, "validation") for form in (Problem, ClassifyForm, LabelsBody, LabelSetBody)]
    _, definitions = models_json_schema(forms, ref_template=_SCHEMA_REF)  # type: ignore[arg-type]
    schemas = document["components"]["schemas"]
    schemas |= definitions["$defs"]
    # FastAPI's own error bodies are never sent.
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    for operations in document["paths"].values():
        for operation in operations.values():
            for parameter in operation.get("parameters", []):
                without_null(parameter["schema"])
            if "HTTPValidationError" in str(operation["responses"].get("422")):
                del operation["responses"]["422"]
    return document
