"""What is read of the head of a request: its id, which its answer has too, and what its body and page are."""

from __future__ import annotations

import re
import secrets
from collections.abc import MutableMapping
from typing import Any

from starlette.datastructures import Headers

from service.errors import InvalidOptionError

REQUEST_ID_HEADER = "X-Request-ID"

_USABLE = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_MAX_DIGITS = 19


def assign_request_id(scope: MutableMapping[str, Any]) -> str:
    """Choose the id and keep it in the scope. An id that could break a log line is not taken over."""
    sent = Headers(scope=scope).get(REQUEST_ID_HEADER, "")
    request_id = sent if _USABLE.fullmatch(sent) else secrets.token_hex(12)
    scope.setdefault("state", {})["request_id"] = request_id
    return request_id


def request_id_of(scope: MutableMapping[str, Any]) -> str:
    """The id given by assign_request_id."""
    return str(scope["state"]["request_id"])


def declared_length(headers: Headers) -> int | None:
    """How many bytes the body has, as far as its header says so.

    A number with more digits than any length has says nothing: such a body is refused by its bytes.
    """
    declared = headers.get("content-length", "")
    return int(declared) if declared.isdecimal() and len(declared) <= _MAX_DIGITS else None


def media_type_of(headers: Headers) -> str:
    """The Content-Type without its parameters, in small letters; empty without one."""
    return headers.get("content-type", "").partition(";")[0].strip().lower()


def check_cursor(cursor: str | None, pattern: str) -> str:
    """Where a page begins; empty: at the first one.

    Args:
        cursor: As it was sent.
        pattern: What each cursor of these pages matches.

    Raises:
        InvalidOptionError: It does not.
    """
    if cursor is not None and not re.fullmatch(pattern, cursor):
        raise InvalidOptionError("cursor is not one that this service gave out; start without it")
    return cursor or ""
