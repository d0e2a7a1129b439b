"""Keys in a SQLite file: private, without any secret."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.access.keys import make_key
from service.access.sqlite import SqliteKeyStore
from service.errors import StoreUnavailableError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file in a folder that is not there yet."""
    return tmp_path / "data" / "keys.sqlite3"


@pytest.fixture
def store(path: Path) -> Iterator[SqliteKeyStore]:
    """A new store."""
    opened = SqliteKeyStore(path)
    yield opened
    opened.close()


def test_only_the_owner_can_read_the_files(path: Path, store: SqliteKeyStore) -> None:
    """Those that SQLite makes beside it too, and one that was readable before."""
    store.create(make_key("one", frozenset({"admin"}))[0])
    files = list(path.parent.iterdir())
    assert len(files) >= 2
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    path.chmod(0o644)
    SqliteKeyStore(path).close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_no_file_contains_a_key(path: Path, store: SqliteKeyStore) -> None:
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


def test_a_store_that_is_gone_or_damaged_says_so(path: Path, store: SqliteKeyStore, tmp_path: Path) -> None:
    """An empty answer would mean that there are no keys."""
    path.unlink()
    with pytest.raises(StoreUnavailableError, match="gone"):
        store.list()
    damaged = tmp_path / "damaged.sqlite3"
    damaged.write_bytes(b"no database" * 1000)
    with pytest.raises(StoreUnavailableError, match="key store"):
        SqliteKeyStore(damaged)
