"""/v1/label-sets: named lists of candidates, changed at run time without retraining or restart."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Response, status

from service.api import schemas
from service.api.context import ContextDep
from service.errors import InvalidNameError, InvalidOptionError
from service.labels.label import Label, make_label
from service.labels.store import LabelSet, Precondition
from service.labels.templates import check_templates

_PROBLEMS: dict[int | str, dict[str, Any]] = {
    code: {"model": schemas.Problem, "description": text, "content": {"application/problem+json": {}}}
    for code, text in {
        404: "No label set, or no label, of that name.",
        412: "The set has changed since it was read (If-Match), or exists (If-None-Match: *).",
        422: "A name, label or template is not acceptable; `code` says which.",
    }.items()
}

router = APIRouter(prefix="/v1/label-sets", tags=["label sets"], responses=_PROBLEMS)

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_ETAG = re.compile(r'\s*(\*|(?:W/)?"[^"]*")\s*(?:,|$)')

IfMatch = Annotated[str | None, Header(description="change only if the set still has this ETag")]
IfNoneMatch = Annotated[str | None, Header(description="GET: 304 if unchanged; PUT with *: only if new")]


@router.get("")
async def list_label_sets(
    context: ContextDep,
    cursor: Annotated[str | None, Query(max_length=400, description="next_cursor of the page before")] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> schemas.LabelSetPage:
    """All label sets in order of name, a page at a time."""
    found = await context.run(context.store.page, _read_cursor(cursor), limit + 1)
    page = found[:limit]
    return schemas.LabelSetPage(
        label_sets=[
            schemas.LabelSetSummary(name=one.name, n_labels=one.n_labels, etag=one.etag, updated=one.updated)
            for one in page
        ],
        next_cursor=_cursor(page[-1].name) if len(found) > limit else None,
    )


@router.put("/{name}", responses={201: {"model": schemas.LabelSet, "description": "The set is new."}})
async def put_label_set(
    name: str,
    body: schemas.LabelSetBody,
    response: Response,
    context: ContextDep,
    if_match: IfMatch = None,
    if_none_match: IfNoneMatch = None,
) -> schemas.LabelSet:
    """Create a label set, or replace all of one."""
    templates = check_templates(body.templates) if body.templates else None
    condition = Precondition(etags=_etags(if_match), absent=_must_be_new(if_none_match))
    label_set, is_new = await context.run(
        context.store.put, _checked_name(name), _labels(body.labels), templates, condition
    )
    if is_new:
        response.status_code = status.HTTP_201_CREATED
        response.headers["Location"] = f"/v1/label-sets/{name}"
    return _answer(label_set, response)


@router.get("/{name}", response_model=schemas.LabelSet)
async def get_label_set(
    name: str, response: Response, context: ContextDep, if_none_match: IfNoneMatch = None
) -> schemas.LabelSet | Response:
    """One label set with all its labels."""
    label_set = await context.run(context.store.get, _checked_name(name))
    known = _etags(if_none_match) or ()
    if {"*", label_set.etag} & {etag.removeprefix("W/") for etag in known}:
        return Response(status_code=status.HTTP_304_NOT_MODIFIED, headers={"ETag": _quoted(label_set.etag)})
    return _answer(label_set, response)


@router.delete("/{name}", status_code=status.HTTP_204_NO_CONTENT)
async def delete_label_set(name: str, context: ContextDep, if_match: IfMatch = None) -> None:
    """Delete a label set."""
    condition = Precondition(etags=_etags(if_match))
    await context.run(context.store.delete, _checked_name(name), condition)


@router.post("/{name}/labels")
async def add_labels(
    name: str, body: schemas.LabelsBody, response: Response, context: ContextDep, if_match: IfMatch = None
) -> schemas.LabelSet:
    """Add labels to a set; the next request already ranks them."""
    condition = Precondition(etags=_etags(if_match))
    label_set = await context.run(context.store.add, _checked_name(name), _labels(body.labels), condition)
    return _answer(label_set, response)


@router.delete("/{name}/labels/{label:path}")
async def remove_label(
    name: str, label: str, response: Response, context: ContextDep, if_match: IfMatch = None
) -> schemas.LabelSet:
    """Take one label out of a set."""
    condition = Precondition(etags=_etags(if_match))
    return _answer(await context.run(context.store.remove, _checked_name(name), label, condition), response)


def _labels(sent: Iterable[str | schemas.LabelBody]) -> list[Label]:
    return [make_label(one) if isinstance(one, str) else make_label(one.name, one.prompts) for one in sent]


def _answer(label_set: LabelSet, response: Response) -> schemas.LabelSet:
    response.headers["ETag"] = _quoted(label_set.etag)
    return schemas.LabelSet(
        name=label_set.name,
        labels=[
            schemas.LabelBody(name=label.name, prompts=list(label.prompts)) for label in label_set.labels
        ],
        templates=None if label_set.templates is None else list(label_set.templates),
        n_labels=len(label_set.labels),
        etag=label_set.etag,
        created=label_set.created,
        updated=label_set.updated,
    )


def _checked_name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise InvalidNameError(
            f"{name[:80]!r} is no name for a label set; use 1 to 100 letters, digits, dots, dashes and "
            "underscores, beginning with a letter or digit"
        )
    return name


def _quoted(etag: str) -> str:
    return f'"{etag}"'


def _etags(header: str | None) -> tuple[str, ...] | None:
    """The header's etags without quotes; a weak one keeps its W/ and so never matches a strong comparison."""
    if header is None:
        return None
    if _ETAG.sub("", header):
        raise InvalidOptionError('If-Match and If-None-Match hold quoted etags, such as "5d4f...", or *.')
    return tuple(etag.replace('"', "") for etag in _ETAG.findall(header))


def _must_be_new(header: str | None) -> bool:
    if header is not None and header.strip() != "*":
        raise InvalidOptionError("With PUT, If-None-Match can only be *, which means: only if it is new.")
    return header is not None


def _cursor(name: str) -> str:
    return base64.urlsafe_b64encode(name.encode()).decode()


def _read_cursor(cursor: str | None) -> str:
    if cursor is None:
        return ""
    try:
        return base64.b64decode(cursor, altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        raise InvalidOptionError("cursor is not one that this service gave out; start without it") from None
