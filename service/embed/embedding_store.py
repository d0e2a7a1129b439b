"""Embeddings of names on disk: what was encoded once is not encoded again after a restart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from service.database import Database

_SCHEMA = """
CREATE TABLE IF NOT EXISTS embeddings (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    key BLOB NOT NULL UNIQUE,
    embedding BLOB NOT NULL
) STRICT;
"""
_KEYS_PER_QUERY = 500


class EmbeddingStore:
    """Keeps bytes by key in a file of its own, which may be deleted while no service runs.

    Safe from several threads. It may forget; every method raises StoreUnavailableError when it can't answer.

    Args:
        path: Of the file.
        capacity: Most embeddings kept.
    """

    def __init__(self, path: Path, capacity: int) -> None:
        # A write that a power cut takes away is encoded again.
        self._database = Database(path, _SCHEMA, "NORMAL", "embedding")
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
