"""A place for label sets in each kind of store, and short sets."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from service.labels.label import MAX_TEMPLATE_CHARACTERS, MAX_TEMPLATES, Label, make_label
from service.labels.sqlite.store import SqliteLabelStore
from service.labels.store import Content, LabelStore, Precondition

OpenStore = Callable[..., LabelStore]
ANY = Precondition()
# As JSON 384 KB.
LONGEST_TEMPLATES = ("\U0001f436" * (MAX_TEMPLATE_CHARACTERS - 2) + "{}",) * MAX_TEMPLATES


def labels_of(*names: str) -> tuple[Label, ...]:
    """Labels without prompts of their own."""
    return tuple(make_label(name) for name in names)


def content_of(*names: str) -> Content:
    """A set of such labels."""
    return Content(labels_of(*names))


def names_in(store: LabelStore, name: str = "s") -> list[str]:
    """The names of a stored set."""
    return [label.name for label in store.get(name).labels]


@pytest.fixture(params=["sqlite", "postgres"])
def open_store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[OpenStore]:
    """Opens the same place as often as it is called, as several processes would."""
    with ExitStack() as stack:
        if request.param == "sqlite":

            def opened(max_labels: int = 5, max_characters: int = 99_999) -> LabelStore:
                path = tmp_path / "new" / "labels.sqlite3"
                return stack.enter_context(closing(SqliteLabelStore(path, max_labels, max_characters)))

        else:
            url = request.getfixturevalue("store_url")
            from service.labels.postgres.store import PostgresLabelStore
            from service.postgres.database import PostgresDatabase

            def opened(max_labels: int = 5, max_characters: int = 99_999) -> LabelStore:
                database = stack.enter_context(closing(PostgresDatabase(url)))
                return PostgresLabelStore(database, max_labels, max_characters)

        yield opened


@pytest.fixture
def store(open_store: OpenStore) -> LabelStore:
    """A new store with room for five labels a set."""
    return open_store()
