"""API keys in PostgreSQL, shared by replicas."""

from __future__ import annotations

import json
from datetime import UTC
from typing import Any

from sqlalchemy import Connection, delete, select
from sqlalchemy.dialects.postgresql import insert

from service.access.key_store import unknown_key
from service.access.keys import ApiKey, Quotas
from service.errors import StoreUnavailableError, UnknownKeyError
from service.postgres.database import PostgresDatabase
from service.postgres.schema import api_keys


class PostgresKeyStore:
    """A KeyStore in a database, which it does not close; see the interface for its methods.

    Args:
        database: Where the table is.
    """

    def __init__(self, database: PostgresDatabase) -> None:
        self._database = database

    def create(self, key: ApiKey) -> None:
        """Keep a new key."""
        # It is there already where the answer to COMMIT was lost.
        if self._database.write(lambda connection: insert_key(connection, key)) is None:
            raise StoreUnavailableError("another key has the same id by chance; make one again")

    def list(self) -> list[ApiKey]:
        """All keys in the order they were made."""
        query = select(api_keys).order_by(api_keys.c.created, api_keys.c.id)
        return self._database.read(lambda connection: [_key(row) for row in connection.execute(query)])

    def revoke(self, key_id: str) -> ApiKey:
        """Delete a key, and return what it was."""
        found: ApiKey | None = None

        def work(connection: Connection) -> None:
            nonlocal found
            row = connection.execute(
                delete(api_keys).where(api_keys.c.id == key_id).returning(*api_keys.c)
            ).first()
            # Gone when it is deleted again, since the answer to COMMIT was lost.
            found = found if row is None else _key(row)

        self._database.write(work)
        if found is None:
            raise UnknownKeyError(unknown_key(key_id))
        return found

    def close(self) -> None:
        """Nothing: who opened the database closes it."""


def insert_key(connection: Connection, key: ApiKey) -> bool | None:
    """Write a key.

    Returns:
        Whether it was written; False: it is there already; None: another one has its id.
    """
    facts = {
        "id": key.id,
        "name": key.name,
        "digest": key.digest,
        "scopes": json.dumps(sorted(key.scopes)),
        "created": key.created,
        "expires": key.expires,
        "rate": key.rate,
        "quotas": json.dumps(vars(key.quotas)),
    }
    written = insert(api_keys).values(facts).on_conflict_do_nothing().returning(api_keys.c.id)
    if connection.scalar(written) is not None:
        return True
    stored = connection.execute(select(api_keys.c.digest).where(api_keys.c.id == key.id)).scalar_one()
    return False if bytes(stored) == key.digest else None


def _key(row: Any) -> ApiKey:
    """A row of the table, whose types SQLAlchemy does not tell."""
    return ApiKey(
        id=row.id,
        name=row.name,
        digest=bytes(row.digest),
        scopes=frozenset(json.loads(row.scopes)),
        created=row.created.astimezone(UTC),
        expires=None if row.expires is None else row.expires.astimezone(UTC),
        rate=row.rate,
        quotas=Quotas(**json.loads(row.quotas)),
    )
