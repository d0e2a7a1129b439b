"""API keys as values: their text, their hash, and what a key permits."""

from __future__ import annotations

import hashlib
import re
import secrets
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Literal, get_args

from service.access.rates import parse_rate
from service.errors import InvalidOptionError

Scope = Literal["classify", "labels", "admin"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
"""classify: what is computed from clips; labels: edits of label sets; admin: reload, metrics and all else."""

MAX_NAME_CHARACTERS = 100
_PREFIX = "ahse"
_SECRET_BYTES = 32
_UNITS = {"m": "minutes", "h": "hours", "d": "days"}
_MAX_DAYS = 36_500


@dataclass(frozen=True)
class Quotas:
    """How much one key may store and send; None: no limit.

    Attributes:
        label_sets: Maximum number of label sets that the key owns.
        labels: Maximum number of labels in them together.
        bytes_per_day: Maximum bytes of request bodies in a day that begins with the first of them.
        jobs: Maximum number of its jobs whose results have not expired.
    """

    label_sets: int | None = None
    labels: int | None = None
    bytes_per_day: int | None = None
    jobs: int | None = None


NO_QUOTAS = Quotas()


@dataclass(frozen=True)
class ApiKey:
    """What is kept of a key: never the key itself.

    Attributes:
        id: Short public name, which logs may contain.
        name: What a person called it.
        digest: SHA-256 of the key's text.
        scopes: What it permits.
        created: When it was made.
        expires: From when on it is refused; None: never.
        rate: Maximum rate of its requests, such as `60/minute`; None: that of the deployment.
        quotas: Its quotas.
    """

    id: str
    name: str
    digest: bytes = field(repr=False)
    scopes: frozenset[Scope]
    created: datetime
    expires: datetime | None = None
    rate: str | None = None
    quotas: Quotas = NO_QUOTAS

    def permits(self, scope: Scope) -> bool:
        """Whether the key has the scope; admin includes every other."""
        return scope in self.scopes or "admin" in self.scopes

    def has_expired(self, now: datetime) -> bool:
        """Whether the key is refused because of its age."""
        return self.expires is not None and self.expires <= now


def digest_of(text: str) -> bytes:
    """SHA-256 of a key.

    A fast hash is right here: a key has 256 random bits, so nobody finds it by trying, and a slow hash, which
    protects passwords that people choose, would only make each request slow.
    """
    return hashlib.sha256(text.encode()).digest()


def id_in(text: str) -> str:
    """The id that a key's text names; what it says of a text that is no key does not matter."""
    return text.removeprefix(f"{_PREFIX}_").partition("_")[0]


def make_key(
    name: str,
    scopes: frozenset[Scope],
    *,
    expires_in: timedelta | None = None,
    rate: str | None = None,
    quotas: Quotas = NO_QUOTAS,
) -> tuple[ApiKey, str]:
    """A new key and its text `ahse_<id>_<secret>`, which exists only here and with the person who gets it.

    Raises:
        InvalidOptionError: The name, the rate or a quota is not acceptable, or there is no scope.
    """
    if not 1 <= len(name) <= MAX_NAME_CHARACTERS or not name.isprintable():
        raise InvalidOptionError(
            f"a key's name must have 1 to {MAX_NAME_CHARACTERS} characters that can be printed"
        )
    if not scopes:
        raise InvalidOptionError(f"a key needs at least one scope; the scopes are: {', '.join(SCOPES)}")
    if any(value is not None and value < 0 for value in vars(quotas).values()):
        raise InvalidOptionError("a quota must be a whole number from 0")
    if rate is not None:
        _check_rate(rate)
    key_id, now = secrets.token_hex(4), datetime.now(UTC).replace(microsecond=0)
    text = f"{_PREFIX}_{key_id}_{secrets.token_urlsafe(_SECRET_BYTES)}"
    expires = None if expires_in is None else now + expires_in
    return ApiKey(key_id, name, digest_of(text), scopes, now, expires, rate, quotas), text


def _check_rate(rate: str) -> None:
    try:
        parse_rate(rate)
    except ValueError as error:
        raise InvalidOptionError(f"the rate of a key {error}") from None


def parse_age(text: str) -> timedelta:
    """Read an age such as `90d`, `12h` or `30m`.

    Raises:
        InvalidOptionError: It is none.
    """
    found = re.fullmatch(r"([1-9][0-9]{0,7})([mhd])", text)
    if found is not None:
        age = timedelta(**{_UNITS[found[2]]: int(found[1])})
        if age <= timedelta(days=_MAX_DAYS):
            return age
    raise InvalidOptionError(f"{text[:40]!r} is no age for a key; write a number and m, h or d, such as 90d")
