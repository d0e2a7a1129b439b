"""/v1/label-sets: named lists of candidates, changed at run time without retraining or restart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Header, Path, Query, Request, Response, status

from service.api import etags, schemas
from service.api.bodies import parse_body, read_body
from service.api.context import Context, ContextDep
from service.api.headers import check_cursor, request_id_of
from service.api.openapi import documented, request_body
from service.errors import (
    InvalidOptionError,
    LabelError,
    LabelSetError,
    OverloadedError,
    RequestError,
    RequestTimeoutError,
    StoreUnavailableError,
)
from service.labels.label import Label, check_count, check_templates, make_label
from service.labels.store import (
    SET_NAME,
    Content,
    LabelSetSummary,
    Precondition,
    check_set_name,
)

router = APIRouter(
    prefix="/v1/label-sets",
    tags=["label sets"],
    responses=documented(
        LabelSetError, LabelError, RequestError, OverloadedError, StoreUnavailableError, RequestTimeoutError
    ),
)

# Documented, and checked here rather than by the framework, for messages of our own.
Name = Annotated[str, Path(json_schema_extra={"pattern": SET_NAME})]
IfMatch = Annotated[
    str | None,
    Header(description="change only if the set still has this ETag", json_schema_extra=etags.DOCUMENTED),
]
IfChanged = Annotated[
    str | None, Header(description="304 if the set still has this ETag", json_schema_extra=etags.DOCUMENTED)
]
IfNew = Annotated[
    str | None, Header(description="*: only if the set is new", json_schema_extra={"enum": ["*"]})
]
Warm = Annotated[
    bool,
    Query(
        description="Embed new labels behind requests with the default bundle, so that the next one need not."
    ),
]


# While the database of a shared store is away (RFC 7234, section 5.5.1; there is no newer header for it).
_STALE = '110 - "Response is Stale"'


@router.get("", response_model=schemas.LabelSetPage)
async def list_label_sets(
    context: ContextDep,
    cursor: Annotated[
        str | None,
        Query(description="next_cursor of the page before", json_schema_extra={"pattern": SET_NAME}),
    ] = None,
    limit: Annotated[
        int, Query(ge=1, le=1000, description="most sets of a page; fewer come where templates are long")
    ] = 100,
) -> Response:
    """All label sets in order of name, a page at a time."""
    return await context.ask_store(_page, context, check_cursor(cursor, SET_NAME), limit)


@router.put(
    "/{name}",
    response_model=schemas.LabelSetSummary,
    responses={201: {"model": schemas.LabelSetSummary, "description": "The set is new."}},
    openapi_extra=request_body(schemas.LabelSetBody),
)
async def put_label_set(
    name: Name,
    request: Request,
    context: ContextDep,
    if_match: IfMatch = None,
    if_none_match: IfNew = None,
    warm: Warm = False,
) -> Response:
    """Create a label set, or replace all of one."""
    condition = _condition(request, if_match, absent=_must_be_new(if_none_match))
    raw = await read_body(request)
    answer = await context.change_store(_put, context, check_set_name(name), raw, condition)
    if warm:
        context.warmer.ask(name)
    return answer


@router.get(
    "/{name}", response_model=schemas.LabelSet, responses={304: {"description": "The set has not changed."}}
)
async def get_label_set(name: Name, context: ContextDep, if_none_match: IfChanged = None) -> Response:
    """One label set with all its labels."""
    etags.read_etags(if_none_match)
    return await context.ask_store(_get, context, check_set_name(name), if_none_match)


@router.delete("/{name}", status_code=status.HTTP_204_NO_CONTENT)
async def delete_label_set(
    name: Name, request: Request, context: ContextDep, if_match: IfMatch = None
) -> None:
    """Delete a label set."""
    condition = _condition(request, if_match)
    await context.change_store(context.store.delete, check_set_name(name), condition)


@router.post(
    "/{name}/labels", response_model=schemas.LabelSetSummary, openapi_extra=request_body(schemas.LabelsBody)
)
async def add_labels(
    name: Name, request: Request, context: ContextDep, if_match: IfMatch = None, warm: Warm = False
) -> Response:
    """Add labels to a set; the next request already ranks them."""
    condition = _condition(request, if_match)
    raw = await read_body(request)
    answer = await context.change_store(_add, context, check_set_name(name), raw, condition)
    if warm:
        context.warmer.ask(name)
    return answer


@router.delete("/{name}/labels/{label:path}", response_model=schemas.LabelSetSummary)
async def remove_label(
    name: Name, label: str, request: Request, context: ContextDep, if_match: IfMatch = None
) -> Response:
    """Take one label out of a set."""
    condition = _condition(request, if_match)
    return await context.change_store(_remove, context, check_set_name(name), label, condition)


def _condition(request: Request, if_match: str | None, *, absent: bool = False) -> Precondition:
    """The condition of a change, with the id by which a change that comes again is recognised."""
    return Precondition(etags.read_etags(if_match), absent, request_id_of(request.scope))


def _put(context: Context, name: str, raw: bytes, condition: Precondition) -> Response:
    body = parse_body(raw, schemas.LabelSetBody)
    templates = None if body.templates is None else check_templates(body.templates)
    content = Content(tuple(_labels(context, body.labels)), templates, body.guarantee)
    summary, is_new = context.store.put(name, content, condition)
    if not is_new:
        return _answer_change(summary)
    return _answer_change(summary, status.HTTP_201_CREATED, {"Location": f"/v1/label-sets/{name}"})


def _get(context: Context, name: str, if_none_match: str | None) -> Response:
    label_set = context.store.get(name)
    stale = {"Warning": _STALE} if label_set.is_stale else {}
    if etags.is_known(label_set.etag, if_none_match):
        return Response(
            status_code=status.HTTP_304_NOT_MODIFIED, headers={"ETag": etags.quoted(label_set.etag), **stale}
        )
    labels = [schemas.LabelBody(name=one.name, prompts=list(one.prompts)) for one in label_set.labels]
    return _answer(schemas.LabelSet(**_facts(label_set), labels=labels), headers=stale)


def _page(context: Context, after: str, limit: int) -> Response:
    """Made beside the event loop: templates can make it long."""
    found = context.store.page(after, limit)
    is_last = not found or not context.store.page(found[-1].name, 1)
    page = schemas.LabelSetPage(
        label_sets=[schemas.LabelSetSummary(**_facts(one)) for one in found],
        next_cursor=None if is_last else found[-1].name,
    )
    return Response(page.model_dump_json(), media_type="application/json")


def _add(context: Context, name: str, raw: bytes, condition: Precondition) -> Response:
    body = parse_body(raw, schemas.LabelsBody)
    return _answer_change(context.store.add(name, _labels(context, body.labels), condition))


def _remove(context: Context, name: str, label: str, condition: Precondition) -> Response:
    return _answer_change(context.store.remove(name, label, condition))


def _labels(context: Context, sent: Sequence[str | schemas.LabelBody]) -> list[Label]:
    check_count(len(sent), context.settings.max_labels_per_set)
    return [make_label(one) if isinstance(one, str) else make_label(one.name, one.prompts) for one in sent]


def _facts(label_set: LabelSetSummary) -> dict[str, Any]:
    """All but the labels, as it goes over the wire."""
    return {name: getattr(label_set, name) for name in schemas.LabelSetSummary.model_fields}


def _answer_change(
    summary: LabelSetSummary, status_code: int = status.HTTP_200_OK, headers: dict[str, str] | None = None
) -> Response:
    """Without the labels: the answer to a small change of a large set would be the most of its cost."""
    return _answer(schemas.LabelSetSummary(**_facts(summary)), status_code, headers)


def _answer(
    body: schemas.LabelSetSummary,
    status_code: int = status.HTTP_200_OK,
    headers: dict[str, str] | None = None,
) -> Response:
    return Response(
        body.model_dump_json(),
        status_code=status_code,
        media_type="application/json",
        headers={"ETag": etags.quoted(body.etag), **(headers or {})},
    )


def _must_be_new(header: str | None) -> bool:
    if header is not None and header.strip() != "*":
        raise InvalidOptionError("With PUT, If-None-Match can only be *, which means: only if it is new.")
    return header is not None
