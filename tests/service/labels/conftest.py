"""A place for label sets in each kind of store."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from service.labels.sqlite import SqliteLabelStore
from service.labels.store import LabelStore

OpenStore = Callable[..., LabelStore]


@pytest.fixture(params=["sqlite", "postgres"])
def open_store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[OpenStore]:
    """Opens the same place as often as it is called, as several processes would."""
    with ExitStack() as stack:
        if request.param == "sqlite":

            def opened(max_labels: int = 5) -> LabelStore:
                path = tmp_path / "new" / "labels.sqlite3"
                return stack.enter_context(closing(SqliteLabelStore(path, max_labels)))

        else:
            url = request.getfixturevalue("store_url")
            from service.labels.postgres.store import PostgresLabelStore
            from service.postgres.database import PostgresDatabase

            def opened(max_labels: int = 5) -> LabelStore:
                return PostgresLabelStore(stack.enter_context(closing(PostgresDatabase(url))), max_labels)

        yield opened


@pytest.fixture
def store(open_store: OpenStore) -> LabelStore:
    """A new store with room for five labels a set."""
    return open_store()
