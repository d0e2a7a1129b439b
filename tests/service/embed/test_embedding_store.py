"""What every store of embeddings does: kept across restarts, bounded, and never in the way."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from service.embed.embedding_store import EmbeddingStore
from service.embed.sqlite import SqliteEmbeddingStore

OpenStore = Callable[[int], EmbeddingStore]


@pytest.fixture(params=["sqlite", "postgres"])
def open_store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[OpenStore]:
    """Opens the same place, with a capacity, as often as it is called, as several processes would."""
    with ExitStack() as stack:
        if request.param == "sqlite":

            def opened(capacity: int) -> EmbeddingStore:
                return stack.enter_context(closing(SqliteEmbeddingStore(tmp_path / "e.sqlite3", capacity)))

        else:
            url = request.getfixturevalue("store_url")
            from service.embed.postgres import PostgresEmbeddingStore
            from service.postgres.database import PostgresDatabase

            def opened(capacity: int) -> EmbeddingStore:
                database = stack.enter_context(closing(PostgresDatabase(url)))
                return PostgresEmbeddingStore(database, capacity)

        yield opened


def _rows(*numbers: int) -> dict[bytes, bytes]:
    return {b"key %d" % number: b"row %d\x00\xff" % number for number in numbers}


def test_they_outlive_the_process(open_store: OpenStore) -> None:
    """What was put is there when the store is opened again; what was not is left out of the answer."""
    first = open_store(10)
    first.put(_rows(1, 2))
    first.close()
    assert open_store(10).get([b"key 2", b"key 3", b"key 1"]) == _rows(1, 2)
    assert open_store(10).get([]) == {}


def test_the_oldest_make_room(open_store: OpenStore) -> None:
    """The store does not grow without end."""
    store = open_store(3)
    for number in range(6):
        store.put(_rows(number))
    assert store.get(list(_rows(*range(6)))) == _rows(3, 4, 5)


def test_what_is_there_stays_as_it_is(open_store: OpenStore) -> None:
    """An embedding is a function of its key: two that encoded the same name at once put the same."""
    store = open_store(3)
    store.put(_rows(1))
    store.put({b"key 1": b"other"})
    assert store.get([b"key 1"]) == _rows(1)


def test_many_at_once_from_several_threads(open_store: OpenStore) -> None:
    """More keys than a statement of SQLite takes, writers beside readers, and all of them twice."""
    stores = [open_store(5_000), open_store(5_000)]
    parts = [_rows(*range(start, start + 600)) for start in range(0, 2_400, 600)]
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda i: stores[i % 2].put(parts[i // 2]), range(8)))
        found = list(threads.map(lambda part: stores[0].get(list(part)), parts))
    assert found == parts
