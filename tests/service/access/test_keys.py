"""API keys: their text, what is kept of them, what they permit."""

from __future__ import annotations

import hashlib
import re
from datetime import timedelta

import pytest

from service.access.keys import SCOPES, Quotas, Scope, id_in, make_key, parse_age
from service.errors import InvalidOptionError

CLASSIFY: frozenset[Scope] = frozenset({"classify"})


def test_a_key_names_its_id_and_has_256_random_bits() -> None:
    """43 characters of base64 hold them; nothing of the secret is kept but its hash."""
    key, text = make_key("camera", CLASSIFY)
    _, other = make_key("camera", CLASSIFY)
    found = re.fullmatch(r"ahse_([0-9a-f]{8})_([A-Za-z0-9_-]{43})", text)
    assert found is not None
    assert found[1] == key.id == id_in(text)
    assert text != other
    assert key.digest == hashlib.sha256(text.encode()).digest()
    assert found[2] not in repr(vars(key))


def test_a_key_prints_neither_itself_nor_its_hash() -> None:
    """Whoever logs it by mistake gives nothing away."""
    key, text = make_key("camera", CLASSIFY)
    assert text not in repr(key)
    assert repr(key.digest) not in repr(key)


@pytest.mark.parametrize("scope", SCOPES)
def test_a_scope_permits_itself_and_admin_permits_all(scope: Scope) -> None:
    """No other scope includes another."""
    for given in SCOPES:
        key, _ = make_key("k", frozenset({given}))
        assert key.permits(scope) == (given in (scope, "admin"))


def test_a_key_expires_at_its_age() -> None:
    """To the second, and one without an age never does."""
    key, _ = make_key("k", CLASSIFY, expires_in=parse_age("90d"))
    assert key.expires == key.created + timedelta(days=90)
    assert not key.has_expired(key.created + timedelta(days=90, seconds=-1))
    assert key.has_expired(key.created + timedelta(days=90))
    assert not make_key("k", CLASSIFY)[0].has_expired(key.created + timedelta(days=9000))


@pytest.mark.parametrize(
    ("text", "age"),
    [("90d", timedelta(days=90)), ("12h", timedelta(hours=12)), ("30m", timedelta(minutes=30))],
)
def test_an_age_is_a_number_and_a_unit(text: str, age: timedelta) -> None:
    """Days, hours, minutes."""
    assert parse_age(text) == age


@pytest.mark.parametrize("text", ["", "90", "d", "-1d", "0d", "1w", "1d ", "99999999d", "1.5d"])
def test_what_is_no_age_is_refused(text: str) -> None:
    """With an example of one."""
    with pytest.raises(InvalidOptionError, match="such as 90d"):
        parse_age(text)


def test_what_is_not_acceptable_is_said() -> None:
    """Names that can't be printed, no scope, a rate that is none, a negative quota."""
    with pytest.raises(InvalidOptionError, match="name must have"):
        make_key("a\x1b[31mb", CLASSIFY)
    with pytest.raises(InvalidOptionError, match="name must have"):
        make_key("", CLASSIFY)
    with pytest.raises(InvalidOptionError, match="at least one scope"):
        make_key("k", frozenset())
    with pytest.raises(InvalidOptionError, match="such as 600/minute"):
        make_key("k", CLASSIFY, rate="fast")
    with pytest.raises(InvalidOptionError, match="quota"):
        make_key("k", CLASSIFY, quotas=Quotas(labels=-1))
