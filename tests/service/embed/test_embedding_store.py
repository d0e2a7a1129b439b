"""Embeddings on disk: kept across restarts, bounded, and never in the way."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from service.embed.embedding_store import EmbeddingStore
from service.errors import StoreUnavailableError


def _rows(*numbers: int) -> dict[bytes, bytes]:
    return {b"key %d" % number: b"row %d" % number for number in numbers}


def test_they_outlive_the_process(tmp_path: Path) -> None:
    """What was put is there when the file is opened again; what was not is left out of the answer."""
    first = EmbeddingStore(tmp_path / "e.sqlite3", 10)
    first.put(_rows(1, 2))
    first.close()
    second = EmbeddingStore(tmp_path / "e.sqlite3", 10)
    assert second.get([b"key 2", b"key 3", b"key 1"]) == _rows(1, 2)
    second.close()


def test_the_oldest_make_room(tmp_path: Path) -> None:
    """The file does not grow without end."""
    store = EmbeddingStore(tmp_path / "e.sqlite3", 3)
    for number in range(6):
        store.put(_rows(number))
    assert store.get(list(_rows(*range(6)))) == _rows(3, 4, 5)
    store.close()


def test_what_is_there_stays_as_it_is(tmp_path: Path) -> None:
    """An embedding is a function of its key: two that encoded the same name at once put the same."""
    store = EmbeddingStore(tmp_path / "e.sqlite3", 3)
    store.put(_rows(1))
    store.put({b"key 1": b"other"})
    assert store.get([b"key 1"]) == _rows(1)
    store.close()


def test_many_at_once_from_several_threads(tmp_path: Path) -> None:
    """More keys than a statement takes, and writers beside readers."""
    store = EmbeddingStore(tmp_path / "e.sqlite3", 5_000)
    parts = [_rows(*range(start, start + 600)) for start in range(0, 2_400, 600)]
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(store.put, parts))
        found = list(threads.map(lambda part: store.get(list(part)), parts))
    assert found == parts
    store.close()


def test_a_file_that_is_none_is_said(tmp_path: Path) -> None:
    """As for the label sets."""
    (tmp_path / "e.sqlite3").write_bytes(b"not a database" * 100)
    with pytest.raises(StoreUnavailableError):
        EmbeddingStore(tmp_path / "e.sqlite3", 3)
