"""Embeddings in a SQLite file: a damaged one is no reason not to start."""

from __future__ import annotations

from pathlib import Path

import pytest

from service.embed.sqlite import SqliteEmbeddingStore


@pytest.mark.parametrize("content", [b"not a database " * 1000, b"SQLite format 3\x00" + b"\xff" * 8000])
def test_a_damaged_file_is_set_aside_and_begun_anew(tmp_path: Path, content: bytes) -> None:
    """It is a cache: it once stopped the start of the service. What was there can still be looked into."""
    path = tmp_path / "e.sqlite3"
    path.write_bytes(content)
    store = SqliteEmbeddingStore(path, 3)
    store.put({b"a": b"1"})
    assert store.get([b"a"]) == {b"a": b"1"}
    store.close()
    assert (tmp_path / "e.sqlite3.damaged").read_bytes() == content
