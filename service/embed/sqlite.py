"""Embeddings of names in a SQLite file, which may be deleted or damaged: it holds nothing but a cache."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from service.database import open_cache

_SCHEMA = """
CREATE TABLE IF NOT EXISTS embeddings (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    key BLOB NOT NULL UNIQUE,
    embedding BLOB NOT NULL
) STRICT;
"""
_KEYS_PER_QUERY = 500


class SqliteEmbeddingStore:
    """An EmbeddingStore in a file of its own, which may be deleted while no service runs.

    Args:
        path: Of the file.
        capacity: Most embeddings kept.
    """

    def __init__(self, path: Path, capacity: int) -> None:
        self._database = open_cache(path, _SCHEMA, "embedding")
        self._capacity = capacity

    def get(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """Those of the keys that are kept."""
        found: dict[bytes, bytes] = {}
        with self._database.reading() as connection:
            for start in range(0, len(keys), _KEYS_PER_QUERY):
                some = keys[start : start + _KEYS_PER_QUERY]
                places = ", ".join("?" * len(some))
                query = f"SELECT key, embedding FROM embeddings WHERE key IN ({places})"  # noqa: S608 (places)
                found.update(connection.execute(query, some).fetchall())
        return found

    def put(self, embeddings: Mapping[bytes, bytes]) -> None:
        """Keep these; the oldest make room."""
        with self._database.writing() as connection:
            connection.executemany(
                "INSERT INTO embeddings (key, embedding) VALUES (?, ?) ON CONFLICT (key) DO NOTHING",
                embeddings.items(),
            )
            connection.execute(
                "DELETE FROM embeddings WHERE id <= (SELECT max(id) FROM embeddings) - ?", (self._capacity,)
            )

    def close(self) -> None:
        """Close the file."""
        self._database.close()
