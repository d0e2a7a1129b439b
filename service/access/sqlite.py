"""API keys in a SQLite file that only its owner can read; no key can be read from it."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path

from service.access.key_store import unknown_key
from service.access.keys import ApiKey, Quotas
from service.database import Database, make_private
from service.errors import UnknownKeyError

_SCHEMA = """
CREATE TABLE IF NOT EXISTS keys (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    digest BLOB NOT NULL,
    scopes TEXT NOT NULL,
    created TEXT NOT NULL,
    expires TEXT,
    rate TEXT,
    quotas TEXT NOT NULL
) STRICT;
"""


class SqliteKeyStore:
    """A KeyStore in a file; see the interface for its methods.

    Args:
        path: Of the file, which is made if there is none.
    """

    def __init__(self, path: Path) -> None:
        make_private(path, "key")
        self._database = Database(path, _SCHEMA, "FULL", "key")

    def create(self, key: ApiKey) -> None:
        """Keep a new key."""
        row = (
            key.id,
            key.name,
            key.digest,
            json.dumps(sorted(key.scopes)),
            key.created.isoformat(),
            None if key.expires is None else key.expires.isoformat(),
            key.rate,
            json.dumps(vars(key.quotas)),
        )
        with self._database.writing() as connection:
            connection.execute("INSERT INTO keys VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)

    def list(self) -> list[ApiKey]:
        """All keys in the order they were made."""
        self._database.check_present()
        with self._database.reading() as connection:
            rows = connection.execute("SELECT * FROM keys ORDER BY created, id").fetchall()
        return [_key(*row) for row in rows]

    def revoke(self, key_id: str) -> ApiKey:
        """Delete a key, and return what it was."""
        with self._database.writing() as connection:
            row = connection.execute("DELETE FROM keys WHERE id = ? RETURNING *", (key_id,)).fetchone()
        if row is None:
            raise UnknownKeyError(unknown_key(key_id))
        return _key(*row)

    def close(self) -> None:
        """Close the file."""
        self._database.close()


def _key(
    key_id: str,
    name: str,
    digest: bytes,
    scopes: str,
    created: str,
    expires: str | None,
    rate: str | None,
    quotas: str,
) -> ApiKey:
    return ApiKey(
        id=key_id,
        name=name,
        digest=digest,
        scopes=frozenset(json.loads(scopes)),
        created=datetime.fromisoformat(created),
        expires=None if expires is None else datetime.fromisoformat(expires),
        rate=rate,
        quotas=Quotas(**json.loads(quotas)),
    )
