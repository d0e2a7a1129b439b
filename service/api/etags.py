"""ETags in headers: read for conditions, and written (RFC 9110, 8.8.3 and 13.1)."""

from __future__ import annotations

import re

from service.errors import InvalidOptionError

_ETAG = r'(?:W/)?"[!#-~]*"'
ETAGS = rf"^(?:\*|{_ETAG}(?: *, *{_ETAG})*)$"
"""What If-Match and If-None-Match may hold."""
DOCUMENTED = {"pattern": ETAGS, "examples": ['"0f4c6a0f1d2b3e4f5a6b7c8d9e0f1a2b"']}


def quoted(etag: str) -> str:
    """As it is written in a header."""
    return f'"{etag}"'


def read_etags(header: str | None) -> tuple[str, ...] | None:
    """The header's etags without quotes; a weak one keeps its W/ and so never matches a strong comparison.

    Raises:
        InvalidOptionError: It holds something else.
    """
    if header is None:
        return None
    if not re.fullmatch(ETAGS, header.strip()):
        raise InvalidOptionError('If-Match and If-None-Match hold quoted etags, such as "5d4f...", or *.')
    if header.strip() == "*":
        return ("*",)
    # No set has the etag "*", which without its quotes would stand for any.
    return tuple(etag.replace('"', "") for etag in re.findall(_ETAG, header) if etag != '"*"')


def is_known(etag: str, header: str | None) -> bool:
    """Whether If-None-Match names an etag, in the weak comparison that it asks for."""
    return bool({"*", etag} & {one.removeprefix("W/") for one in read_etags(header) or ()})
