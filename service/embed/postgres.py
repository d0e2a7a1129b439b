"""Embeddings of names in PostgreSQL: what one replica has encoded no other encodes again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy import Connection, text

from service.postgres.database import PostgresDatabase

_GET = text("SELECT key, embedding FROM embeddings WHERE key = ANY(CAST(:keys AS bytea[]))")
# Without the keys that are there the numbers have few gaps, and their number is that of the rows.
_PUT = text(
    """
    INSERT INTO embeddings (key, embedding)
    SELECT key, embedding FROM unnest(CAST(:keys AS bytea[]), CAST(:rows AS bytea[])) AS new (key, embedding)
    WHERE NOT EXISTS (SELECT 1 FROM embeddings AS old WHERE old.key = new.key)
    ON CONFLICT (key) DO NOTHING
    """
)
_MAKE_ROOM = text("DELETE FROM embeddings WHERE id <= (SELECT max(id) FROM embeddings) - :capacity")


class PostgresEmbeddingStore:
    """An EmbeddingStore in a database, which it does not close; see the interface for its methods.

    Args:
        database: Where the table is.
        capacity: Most embeddings kept.
    """

    def __init__(self, database: PostgresDatabase, capacity: int) -> None:
        self._database = database
        self._capacity = capacity

    def get(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """Those of the keys that are kept."""

        def work(connection: Connection) -> dict[bytes, bytes]:
            return {bytes(key): bytes(row) for key, row in connection.execute(_GET, {"keys": list(keys)})}

        return self._database.read(work)

    def put(self, embeddings: Mapping[bytes, bytes]) -> None:
        """Keep these; the oldest make room."""
        # In one order everywhere, so that two replicas that put the same never wait for each other.
        keys = sorted(embeddings)
        rows = [embeddings[key] for key in keys]

        def work(connection: Connection) -> None:
            connection.execute(_PUT, {"keys": keys, "rows": rows})
            connection.execute(_MAKE_ROOM, {"capacity": self._capacity})

        self._database.write(work)

    def close(self) -> None:
        """Nothing: who opened the database closes it."""
