"""Keys in PostgreSQL: answers that are lost, and ids that are taken."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace

import pytest

from service.access.keys import make_key
from service.errors import StoreUnavailableError
from tests.service.postgres.server import why_absent

if reason := why_absent():
    pytest.skip(reason, allow_module_level=True)

from service.access.postgres import PostgresKeyStore
from service.postgres.database import PostgresDatabase
from tests.service.postgres.lost_answers import lose_answers_to_commit


@pytest.fixture
def store(store_url: str) -> Iterator[PostgresKeyStore]:
    """A new store."""
    with closing(PostgresDatabase(store_url)) as database:
        yield PostgresKeyStore(database)


def test_a_change_whose_commit_was_not_answered_is_made_once(
    store: PostgresKeyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is answered as if nothing had happened."""
    key, _ = make_key("one", frozenset({"admin"}))
    store.list()
    lost = lose_answers_to_commit(monkeypatch)
    store.create(key)
    assert lost == [1]
    assert store.list() == [key]
    lost.clear()
    assert store.revoke(key.id) == key
    assert lost == [1]
    assert store.list() == []


def test_an_id_that_is_taken_is_not_given_to_another_key(store: PostgresKeyStore) -> None:
    """Ids are short: by chance two could be the same."""
    key, _ = make_key("one", frozenset({"classify"}))
    store.create(key)
    with pytest.raises(StoreUnavailableError, match="by chance"):
        store.create(replace(key, digest=bytes(32), scopes=frozenset({"admin"})))
    assert store.list() == [key]
