"""The store of label sets in PostgreSQL: one transaction a change, sets kept as they were read last."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import replace

from sqlalchemy import Connection, delete, select

from service.errors import StoreUnavailableError, UnknownLabelError, UnknownLabelSetError
from service.labels.changes import (
    RecentSets,
    check_precondition,
    check_stored,
    edited,
    put_over,
    version_of,
    with_labels,
)
from service.labels.label import Label, check_count, check_labels
from service.labels.postgres import rows
from service.labels.repeats import Answer, Change, change_of
from service.labels.store import (
    NOBODY,
    Content,
    Edit,
    LabelSet,
    LabelSetSummary,
    Owner,
    Precondition,
)
from service.postgres.database import PostgresDatabase
from service.postgres.schema import label_sets
from service.postgres.schema import labels as label_rows


class PostgresLabelStore:
    """A LabelStore in a database, which it does not close.

    While the database is away, `get` returns sets as they were read last, marked as stale.

    Args:
        database: Where the tables are.
        max_labels: Most labels in a set.
    """

    def __init__(self, database: PostgresDatabase, max_labels: int) -> None:
        self._database = database
        self._max_labels = max_labels
        self._recent = RecentSets()

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
        query = (
            select(*rows.SUMMARY).where(label_sets.c.name > after).order_by(label_sets.c.name).limit(limit)
        )
        return self._database.read(lambda connection: list(map(rows.summary_of, connection.execute(query))))

    def put(
        self, name: str, content: Content, precondition: Precondition, owner: Owner = NOBODY
    ) -> tuple[LabelSetSummary, bool]:
        """Create or replace a set; the flag says that it is new."""
        check_labels(content.labels, self._max_labels, may_be_empty=True)
        change = change_of(precondition, owner, "put", content.etag)

        def work(connection: Connection) -> tuple[Answer, bool]:
            rows.lock_set(connection, name, owner)
            if known := rows.find_answer(connection, name, change):
                return known, False
            before = rows.find_set(connection, name)
            check_precondition(precondition, name, before)
            rows.check_owner(connection, owner, name, len(content.labels))
            after = put_over(before, name, content)
            rows.write_set(connection, after, owner)
            if before is None or before.etag != after.etag:
                connection.execute(delete(label_rows).where(label_rows.c.label_set == name))
                rows.add_labels(connection, name, 0, content.labels)
            answer = Answer(after, is_new=before is None)
            rows.keep_answer(connection, name, change, answer)
            return answer, True

        answer, is_made = self._database.write(work)
        after = check_stored(name, answer.summary)
        if is_made:
            self._recent.keep(with_labels(after, content.labels))
        return after, answer.is_new

    def add(
        self, name: str, labels: Sequence[Label], precondition: Precondition, owner: Owner = NOBODY
    ) -> LabelSetSummary:
        """Append the labels that are new; the sum is checked like a new set."""
        check_labels(labels, self._max_labels, may_be_empty=True)
        sent = [[label.name, label.prompts] for label in labels]
        change = change_of(precondition, owner, "add", sent)

        def add_to(connection: Connection, before: LabelSetSummary) -> tuple[LabelSetSummary, Edit]:
            edit = rows.merge_labels(connection, name, labels)
            after = edited(before, edit)
            check_count(after.n_labels, self._max_labels)
            rows.check_owner(connection, owner, name, after.n_labels)
            rows.write_set(connection, after, owner)
            return after, edit

        return self._edit(name, precondition, change, add_to, owner)

    def remove(self, name: str, label: str, precondition: Precondition) -> LabelSetSummary:
        """Take one label out."""
        change = change_of(precondition, NOBODY, "remove", label)

        def remove_from(connection: Connection, before: LabelSetSummary) -> tuple[LabelSetSummary, Edit]:
            gone = connection.scalar(
                delete(label_rows)
                .where(label_rows.c.label_set == name, label_rows.c.key_hash == rows.key_hash(label))
                .returning(label_rows.c.name)
            )
            if gone is None:
                raise UnknownLabelError(f"label set {name!r} has no label {label[:80]!r}")
            edit = Edit(removed=(gone,))
            after = edited(before, edit)
            rows.write_set(connection, after)
            return after, edit

        return self._edit(name, precondition, change, remove_from)

    def _edit(
        self,
        name: str,
        precondition: Precondition,
        change: Change,
        make: Callable[[Connection, LabelSetSummary], tuple[LabelSetSummary, Edit]],
        owner: Owner = NOBODY,
    ) -> LabelSetSummary:
        def work(connection: Connection) -> tuple[LabelSetSummary, LabelSetSummary, Edit]:
            rows.lock_set(connection, name, owner)
            if known := rows.find_answer(connection, name, change):
                answered = check_stored(name, known.summary)
                return answered, answered, Edit()
            before = check_stored(name, rows.find_set(connection, name))
            check_precondition(precondition, name, before)
            after, edit = make(connection, before)
            rows.keep_answer(connection, name, change, Answer(after))
            return before, after, edit

        before, after, edit = self._database.write(work)
        self._recent.edit(before, after, edit)
        return after

    def delete(self, name: str, precondition: Precondition) -> None:
        """Delete a set."""
        change = change_of(precondition, NOBODY, "delete", None)

        def work(connection: Connection) -> None:
            rows.lock_set(connection, name, NOBODY)
            if rows.find_answer(connection, name, change):
                return
            check_precondition(precondition, name, check_stored(name, rows.find_set(connection, name)))
            connection.execute(delete(label_sets).where(label_sets.c.name == name))
            rows.keep_answer(connection, name, change, Answer(None))

        self._database.write(work)
        self._recent.forget(name)

    def check(self) -> None:
        """Try the database, so that it is known and logged whether it is away; never raise.

        A replica goes on with the sets that it has read, so it stays ready: a database is away from all
        replicas at once, and none would be left to answer.
        """
        with contextlib.suppress(StoreUnavailableError):
            self._database.ask("SELECT 1")

    def close(self) -> None:
        """Nothing: who opened the database closes it."""
