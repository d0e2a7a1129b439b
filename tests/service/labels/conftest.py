"""A place for label sets in each kind of store."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from service.labels.sqlite import SqliteLabelStore
from service.labels.store import LabelStore

OpenStore = Callable[..., LabelStore]


@pytest.fixture(params=["sqlite"])
def open_store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[OpenStore]:
    """Opens the same place as often as it is called, as several processes would."""
    kinds: dict[str, OpenStore] = {
        "sqlite": lambda max_labels: SqliteLabelStore(tmp_path / "new" / "labels.sqlite3", max_labels)
    }
    with ExitStack() as stack:

        def opened(max_labels: int = 5) -> LabelStore:
            return stack.enter_context(closing(kinds[request.param](max_labels)))

        yield opened


@pytest.fixture
def store(open_store: OpenStore) -> LabelStore:
    """A new store with room for five labels a set."""
    return open_store()
