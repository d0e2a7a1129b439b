"""Embeddings on disk: kept across restarts, bounded, and never in the way."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from service.embed.embedding_store import EmbeddingStore


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


@pytest.mark.parametrize("content", [b"not a database " * 1000, b"SQLite format 3\x00" + b"\xff" * 8000])
def test_a_damaged_file_is_set_aside_and_begun_anew(tmp_path: Path, content: bytes) -> None:
    """It is a cache: it once stopped the start of the service. What was there can still be looked into."""
    path = tmp_path / "e.sqlite3"
    path.write_bytes(content)
    store = EmbeddingStore(path, 3)
    store.put({b"a": b"1"})
    assert store.get([b"a"]) == {b"a": b"1"}
    store.close()
    assert (tmp_path / "e.sqlite3.damaged").read_bytes() == content
