"""Errors as problem+json (RFC 9457). One table gives each kind of error its status."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute, Match

from service import errors
from service.api.headers import request_id_of
from service.faults import describe_faults

MEDIA_TYPE = "application/problem+json"

STATUS: Mapping[type[errors.AhseError], HTTPStatus] = {
    errors.EmptyFileError: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.NotMediaError: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    errors.TruncatedMediaError: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.NoTracksError: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.ClipTooLongError: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.ClipTooLargeError: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.TooManySegmentsError: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.DecodeTimeoutError: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.DecodeCrashedError: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.NoLabelsError: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.InvalidLabelError: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.AmbiguousLabelsError: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.DuplicateLabelsError: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.TooManyLabelsError: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.TooMuchTextError: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.InvalidTemplateError: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.UnknownLabelError: HTTPStatus.NOT_FOUND,
    errors.UnknownLabelSetError: HTTPStatus.NOT_FOUND,
    errors.InvalidNameError: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.PreconditionFailedError: HTTPStatus.PRECONDITION_FAILED,
    errors.UnknownJobError: HTTPStatus.NOT_FOUND,
    errors.JobExpiredError: HTTPStatus.GONE,
    errors.JobInterruptedError: HTTPStatus.SERVICE_UNAVAILABLE,  # in results of jobs only
    errors.ClipLostError: HTTPStatus.GONE,  # in results of jobs only
    errors.MalformedBodyError: HTTPStatus.BAD_REQUEST,
    errors.InvalidRequestError: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.MissingFileError: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.InvalidOptionError: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.BodyTooLargeError: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    errors.UploadStalledError: HTTPStatus.REQUEST_TIMEOUT,
    errors.UrlRefusedError: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.FetchFailedError: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.UnauthenticatedError: HTTPStatus.UNAUTHORIZED,
    errors.ForbiddenError: HTTPStatus.FORBIDDEN,
    errors.QuotaExceededError: HTTPStatus.FORBIDDEN,
    errors.RateLimitedError: HTTPStatus.TOO_MANY_REQUESTS,
    errors.HostNotAllowedError: HTTPStatus.MISDIRECTED_REQUEST,
    errors.OriginNotAllowedError: HTTPStatus.FORBIDDEN,
    errors.WrongPortError: HTTPStatus.NOT_FOUND,
    # Of the command line and the start; never sent.
    errors.UnknownKeyError: HTTPStatus.NOT_FOUND,
    errors.SettingsError: HTTPStatus.INTERNAL_SERVER_ERROR,
    errors.BundleInvalidError: HTTPStatus.CONFLICT,
    errors.UnknownBundleError: HTTPStatus.NOT_FOUND,
    errors.OverloadedError: HTTPStatus.TOO_MANY_REQUESTS,
    errors.DeviceUnavailableError: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.DecoderUnavailableError: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.UploadUnavailableError: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.ClipUnavailableError: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.StoreUnavailableError: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.NotReadyError: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.RequestTimeoutError: HTTPStatus.GATEWAY_TIMEOUT,
}

# What may be gone when the same request comes again.
_PASSING = {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.GATEWAY_TIMEOUT}
RETRY_AFTER_S = "5"
# By the health monitor, and by the log line of the request.
_LOGGED_ELSEWHERE = (errors.NotReadyError, errors.RequestTimeoutError)

_UNFORESEEN = "Something went wrong in the service. The log holds the cause under this request_id."

_log = structlog.get_logger(__name__)


def problem(
    request: Request,
    status: HTTPStatus,
    code: str,
    detail: str,
    *,
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    """A problem+json response.

    Args:
        request: Whose id and path the problem names.
        status: HTTP status.
        code: Stable name that clients may branch on.
        detail: What is wrong and what to do; never a path, traceback or library text.
        headers: Further response headers.
    """
    request.scope["state"]["code"] = code  # for the log line of the request
    body = {
        **problem_body(status, code, detail),
        "instance": request.url.path,
        "request_id": request_id_of(request.scope),
        **_as_openai(request.url.path, status, code, detail),
    }
    return JSONResponse(body, status_code=int(status), media_type=MEDIA_TYPE, headers=dict(headers or {}))


def _as_openai(path: str, status: HTTPStatus, code: str, detail: str) -> dict[str, Any]:
    """The same in OpenAI's shape, on the addresses that have it, for OpenAI's clients."""
    if path != "/v1/embeddings" and path != "/v1/models" and not path.startswith("/v1/models/"):
        return {}
    kind = "server_error" if status >= HTTPStatus.INTERNAL_SERVER_ERROR else "invalid_request_error"
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        kind = "rate_limit_error"
    param = {"unknown_bundle": "model", "invalid_label": "input"}.get(code)
    return {"error": {"message": detail, "type": kind, "code": code, "param": param}}


def problem_body(status: HTTPStatus, code: str, detail: str) -> dict[str, Any]:
    """The members of a problem object that do not depend on a request."""
    return {
        "type": f"urn:ahse:problem:{code}",
        "title": status.phrase,
        "status": int(status),
        "code": code,
        "detail": detail,
    }


def line_problem(error: Exception, instance: str, request_id: str) -> dict[str, Any]:
    """The problem object of one of several answers, where the status of all was sent already."""
    if isinstance(error, errors.AhseError):
        _log_typed(error)
        body = problem_body(STATUS[type(error)], error.code, error.message)
    else:
        _log.error("unforeseen error", exc_info=error)
        body = problem_body(HTTPStatus.INTERNAL_SERVER_ERROR, "internal_error", _UNFORESEEN)
    return {**body, "instance": instance, "request_id": request_id}


def typed_problem(
    request: Request, error: errors.AhseError, headers: Mapping[str, str] | None = None
) -> JSONResponse:
    """The problem+json response of a typed error; one that passes says when to try again."""
    status = STATUS[type(error)]
    own: dict[str, str] = {}
    if isinstance(error, errors.RateLimitedError):
        own = {"Retry-After": str(error.retry_after_s)}
    elif status in _PASSING:
        own = {"Retry-After": RETRY_AFTER_S}
    elif status == HTTPStatus.UNAUTHORIZED:
        own = {"WWW-Authenticate": 'Bearer realm="ahse"'}
    return problem(request, status, error.code, error.message, headers={**own, **(headers or {})})


def register(app: FastAPI, routes: Sequence[BaseRoute]) -> None:
    """Answer every error of the tree and of the framework; RequestContext answers the unforeseen.

    Args:
        app: The application.
        routes: All its routes, to name every method of an address; the framework names those of one route.
    """

    async def framework(request: Request, error: Exception) -> Response:
        return _framework(request, error, routes)

    app.add_exception_handler(errors.AhseError, _typed)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, framework)


async def _typed(request: Request, error: Exception) -> Response:
    if not isinstance(error, errors.AhseError):  # the framework's signature is wider than the registration
        raise error
    _log_typed(error)
    return typed_problem(request, error)


def _log_typed(error: errors.AhseError) -> None:
    if STATUS[type(error)] >= HTTPStatus.INTERNAL_SERVER_ERROR and not isinstance(error, _LOGGED_ELSEWHERE):
        _log.error("unavailable", code=error.code, exc_info=error)
    elif error.__cause__ is not None:
        _log.info("refused", code=error.code, cause=repr(error.__cause__)[-500:])


async def _invalid(request: Request, error: Exception) -> Response:
    faults = error.errors() if isinstance(error, RequestValidationError) else []
    kind = errors.InvalidRequestError
    return problem(request, STATUS[kind], kind.code, wrong_form(faults))


def wrong_form(faults: Sequence[Mapping[str, Any]]) -> str:
    """The message for a request that can be read but lacks the documented form."""
    return "The request does not have the documented form: " + describe_faults(faults, "the body")


def _framework(request: Request, error: Exception, routes: Sequence[BaseRoute]) -> Response:
    if not isinstance(error, HTTPException):  # the framework's signature is wider than the registration
        raise error
    status = HTTPStatus(error.status_code)
    code = {
        HTTPStatus.NOT_FOUND: "not_found",
        HTTPStatus.METHOD_NOT_ALLOWED: "method_not_allowed",
    }.get(status, "malformed_body" if status == HTTPStatus.BAD_REQUEST else "http_error")
    detail = {
        "not_found": "There is nothing at this address; /docs lists what there is.",
        "method_not_allowed": "This address does not answer that method; /docs lists what it answers.",
        "malformed_body": "The body can't be read as what its Content-Type says.",
    }.get(code, status.phrase)
    headers = dict(error.headers or {})
    if status == HTTPStatus.METHOD_NOT_ALLOWED and (methods := _methods_at(request, routes)):
        headers["Allow"] = ", ".join(sorted(methods))
    return problem(request, status, code, detail, headers=headers)


def _methods_at(request: Request, routes: Sequence[BaseRoute]) -> set[str]:
    """All methods that an address answers; none for pages of the framework itself."""
    matching = (route for route in routes if route.matches(request.scope)[0] is not Match.NONE)
    return {method for route in matching for method in getattr(route, "methods", None) or ()}


async def unforeseen(request: Request, error: Exception) -> Response:
    """A fixed text; what happened is in the log under the request's id."""
    _log.error("unforeseen error", exc_info=error)
    return problem(
        request,
        HTTPStatus.INTERNAL_SERVER_ERROR,
        "internal_error",
        _UNFORESEEN,
    )
