"""What every store of keys does: durable, and the same for all who have it open."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from service.access.keys import ApiKey, Quotas, make_key, parse_age
from service.errors import UnknownKeyError
from tests.service.access.conftest import OpenKeys


def _made() -> list[ApiKey]:
    permitted = {"expires_in": parse_age("1d"), "rate": "5/minute", "quotas": Quotas(1, 2, 3, 4)}
    one, _ = make_key("one", frozenset({"classify", "labels"}), **permitted)  # type: ignore[arg-type]  # of a dict
    return [one, make_key("two", frozenset({"admin"}))[0]]


def test_a_key_survives_a_restart(open_keys: OpenKeys) -> None:
    """With all that it permits."""
    first, made = open_keys(), _made()
    for key in made:
        first.create(key)
    first.close()
    assert sorted(open_keys().list(), key=lambda key: key.name) == made


def test_keys_are_in_the_order_they_were_made(open_keys: OpenKeys) -> None:
    """Whatever their ids are."""
    store = open_keys()
    for number in range(5):
        key, _ = make_key(f"key {number}", frozenset({"classify"}))
        store.create(replace(key, created=key.created + timedelta(seconds=number)))
    assert [key.name for key in store.list()] == [f"key {number}" for number in range(5)]


def test_a_revoked_key_is_gone(open_keys: OpenKeys) -> None:
    """For all who have the store open; it can't be revoked twice."""
    store, other = open_keys(), open_keys()
    kept, revoked = _made()
    for key in (kept, revoked):
        store.create(key)
    assert other.revoke(revoked.id) == revoked
    assert store.list() == [kept]
    with pytest.raises(UnknownKeyError, match="ahse keys list"):
        store.revoke(revoked.id)
