"""The store of label sets in PostgreSQL: one transaction a change, sets kept as they were read last."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from sqlalchemy import Connection

from service.errors import StoreUnavailableError, UnknownLabelSetError
from service.labels.changes import version_of
from service.labels.editing import EditableLabelSets
from service.labels.postgres import rows
from service.labels.store import LabelSet, LabelSetSummary
from service.postgres.database import PostgresDatabase

Value = TypeVar("Value")


class PostgresLabelStore(EditableLabelSets[Connection]):
    """A LabelStore in a database, which it does not close.

    While the database is away, `get` returns sets as they were read last, marked as stale.

    Args:
        database: Where the tables are.
        max_labels: Most labels in a set.
        max_characters: Most characters in a set, as `count_characters` counts them.
    """

    def __init__(self, database: PostgresDatabase, max_labels: int, max_characters: int) -> None:
        super().__init__(rows, max_labels, max_characters)
        self._database = database

    def _write(self, work: Callable[[Connection], Value]) -> Value:
        return self._database.write(work)

    def get(self, name: str) -> LabelSet:
        """The set of that name; the same value as before if it has not changed."""
        known = self._recent.get(name)
        try:
            return self._current(name, known)
        except StoreUnavailableError:
            if known is None:
                raise
            return replace(known, is_stale=True)

    def _current(self, name: str, known: LabelSet | None) -> LabelSet:
        if known is not None:
            version = self._database.ask(
                "SELECT etag, created, updated FROM label_sets WHERE name = %s", (name,)
            )
            if version == version_of(known):
                return known
        try:
            found = self._database.read(lambda connection: rows.read_set(connection, name), is_long=True)
        except UnknownLabelSetError:
            self._recent.forget(name)
            raise
        self._recent.keep(found)
        return found

    def page(self, after: str, limit: int) -> list[LabelSetSummary]:
        """Up to limit sets whose names sort behind `after`, in order of name."""
        return self._database.read(lambda connection: rows.read_page(connection, after, limit))

    def check(self) -> None:
        """Try the database, so that it is known and logged whether it is away; never raise.

        A replica goes on with the sets that it has read, so it stays ready: a database is away from all
        replicas at once, and none would be left to answer.
        """
        with contextlib.suppress(StoreUnavailableError):
            self._database.ask("SELECT 1")

    def close(self) -> None:
        """Nothing: who opened the database closes it."""
