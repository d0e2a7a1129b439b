"""The store of label sets in a SQLite file: one short transaction a change."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from service.database import Database
from service.labels.changes import version_of
from service.labels.editing import EditableLabelSets
from service.labels.sqlite import rows, schema
from service.labels.store import LabelSet, LabelSetSummary

Value = TypeVar("Value")


class SqliteLabelStore(EditableLabelSets[sqlite3.Connection]):
    """A LabelStore in a file.

    Args:
        path: Of the file.
        max_labels: Most labels in a set.
        max_characters: Most characters in a set, as `count_characters` counts them.
    """

    def __init__(self, path: Path, max_labels: int, max_characters: int) -> None:
        super().__init__(rows, max_labels, max_characters)
        self._database = Database(path, schema.TABLES, "FULL", "label", schema.MIGRATIONS)

    def _write(self, work: Callable[[sqlite3.Connection], Value]) -> Value:
        with self._database.writing() as connection:
            return work(connection)

    def get(self, name: str) -> LabelSet:
        """The set of that name; the same value as before if it has not changed."""
        known = self._recent.get(name)
        with self._database.reading() as connection:
            if known is not None and rows.read_version(connection, name) == version_of(known):
                return known
            found = rows.read_set(connection, name)
        self._recent.keep(found)
        return found

    def page(self, after: str, limit: int) -> list[LabelSetSummary]:
        """Up to limit sets whose names sort behind `after`, in order of name."""
        with self._database.reading() as connection:
            return rows.read_page(connection, after, limit)

    def owned(self) -> Iterator[tuple[LabelSet, str]]:
        """All sets in order of name, with the ids of their owners: one state of the file, a set at a time."""
        with self._database.reading() as connection:
            for name, owner in rows.read_owners(connection):
                yield rows.read_set(connection, name), owner

    def check(self) -> None:
        """Raise StoreUnavailableError when the store can't answer now."""
        self._database.check()

    def close(self) -> None:
        """Close the file."""
        self._database.close()
