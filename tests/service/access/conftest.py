"""A place for keys in each kind of store."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from service.access.key_store import KeyStore
from service.access.sqlite import SqliteKeyStore

OpenKeys = Callable[[], KeyStore]


@pytest.fixture(params=["sqlite", "postgres"])
def open_keys(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[OpenKeys]:
    """Opens the same place as often as it is called, as several processes would."""
    with ExitStack() as stack:
        if request.param == "sqlite":

            def opened() -> KeyStore:
                return stack.enter_context(closing(SqliteKeyStore(tmp_path / "new" / "keys.sqlite3")))

        else:
            url = request.getfixturevalue("store_url")
            from service.access.postgres import PostgresKeyStore
            from service.postgres.database import PostgresDatabase

            def opened() -> KeyStore:
                return PostgresKeyStore(stack.enter_context(closing(PostgresDatabase(url))))

        yield opened
