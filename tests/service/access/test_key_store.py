"""Keys in SQLite: durable, private, without any secret."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.access.key_store import KeyStore
from service.access.keys import Quotas, make_key, parse_age
from service.errors import StoreUnavailableError, UnknownKeyError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file in a folder that is not there yet."""
    return tmp_path / "data" / "keys.sqlite3"


@pytest.fixture
def store(path: Path) -> Iterator[KeyStore]:
    """A new store."""
    opened = KeyStore(path)
    yield opened
    opened.close()


def test_a_key_survives_closing_the_file(path: Path) -> None:
    """With all that it permits, in the order in which keys were made."""
    first = KeyStore(path)
    one, _ = make_key(
        "one",
        frozenset({"classify", "labels"}),
        expires_in=parse_age("1d"),
        rate="5/minute",
        quotas=Quotas(1, 2, 3),
    )
    two, _ = make_key("two", frozenset({"admin"}))
    first.create(one)
    first.create(two)
    first.close()
    second = KeyStore(path)
    assert sorted(second.list(), key=lambda key: key.name) == [one, two]
    second.close()


def test_a_revoked_key_is_gone(store: KeyStore) -> None:
    """It can't be revoked twice."""
    key, _ = make_key("one", frozenset({"admin"}))
    store.create(key)
    assert store.revoke(key.id) == key
    assert store.list() == []
    with pytest.raises(UnknownKeyError, match="ahse keys list"):
        store.revoke(key.id)


def test_only_the_owner_can_read_the_files(path: Path, store: KeyStore) -> None:
    """Those that SQLite makes beside it too, and one that was readable before."""
    store.create(make_key("one", frozenset({"admin"}))[0])
    files = list(path.parent.iterdir())
    assert len(files) >= 2
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    path.chmod(0o644)
    KeyStore(path).close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_no_file_contains_a_key(path: Path, store: KeyStore) -> None:
    """Neither its text nor its secret part, while the store is open and after it was closed."""
    key, text = make_key("one", frozenset({"admin"}))
    store.create(key)
    secret = text.rpartition(f"{key.id}_")[2].encode()
    while_open = b"".join(file.read_bytes() for file in path.parent.iterdir())
    store.close()
    closed = path.read_bytes()
    for content in (while_open, closed):
        assert key.id.encode() in content
        assert secret not in content


def test_a_store_that_is_gone_or_damaged_says_so(path: Path, store: KeyStore, tmp_path: Path) -> None:
    """An empty answer would mean that there are no keys."""
    path.unlink()
    with pytest.raises(StoreUnavailableError, match="gone"):
        store.list()
    damaged = tmp_path / "damaged.sqlite3"
    damaged.write_bytes(b"no database" * 1000)
    with pytest.raises(StoreUnavailableError, match="key store"):
        KeyStore(damaged)
