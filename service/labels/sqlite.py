"""Label sets in one SQLite file, one short transaction a write."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from service.database import Database, Migration
from service.errors import UnknownLabelError
from service.labels.changes import (
    RecentSets,
    check_precondition,
    check_quotas,
    check_stored,
    edited,
    put_over,
    version_of,
    with_labels,
)
from service.labels.label import Label, check_count, check_labels, label_key
from service.labels.repeats import REMEMBERED_FOR, Answer, Change, change_of
from service.labels.store import (
    NOBODY,
    Content,
    Edit,
    LabelSet,
    LabelSetSummary,
    Owner,
    Precondition,
)

_SCHEMA = """
CREATE TABLE IF NOT EXISTS label_sets (
    name TEXT PRIMARY KEY,
    etag TEXT NOT NULL,
    templates TEXT,
    n_labels INTEGER NOT NULL,
    created TEXT NOT NULL,
    updated TEXT NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS labels (
    label_set TEXT NOT NULL REFERENCES label_sets (name) ON DELETE CASCADE,
    position INTEGER NOT NULL,
    name TEXT NOT NULL,
    prompts TEXT NOT NULL,
    PRIMARY KEY (label_set, position)
) STRICT, WITHOUT ROWID;
"""


def _add_keys(connection: sqlite3.Connection) -> None:
    """Let a label be found by what makes its name the same as another."""
    connection.create_function("label_key", 1, label_key, deterministic=True)
    connection.execute("ALTER TABLE labels ADD COLUMN label_key TEXT NOT NULL DEFAULT ''")
    connection.execute("UPDATE labels SET label_key = label_key(name)")
    connection.execute("CREATE UNIQUE INDEX labels_by_key ON labels (label_set, label_key)")


_MIGRATIONS: tuple[Migration, ...] = (
    "ALTER TABLE label_sets ADD COLUMN owner TEXT NOT NULL DEFAULT ''",
    "ALTER TABLE label_sets ADD COLUMN guarantee REAL",
    _add_keys,
    """
    CREATE TABLE label_set_changes (
        label_set TEXT NOT NULL,
        request BLOB NOT NULL,
        content BLOB NOT NULL,
        answer TEXT NOT NULL,
        made REAL NOT NULL,
        PRIMARY KEY (label_set, request)
    ) STRICT, WITHOUT ROWID
    """,
    "CREATE INDEX label_set_changes_by_age ON label_set_changes (made)",
)
_SUMMARY = "name, n_labels, templates, guarantee, etag, created, updated"


class SqliteLabelStore:
    """A LabelStore in a file.

    Args:
        path: Of the file.
        max_labels: Most labels in a set.
    """

    def __init__(self, path: Path, max_labels: int) -> None:
        self._max_labels = max_labels
        self._database = Database(path, _SCHEMA, "FULL", "label", _MIGRATIONS)
        self._recent = RecentSets()

    def get(self, name: str) -> LabelSet:
        """The set of that name; the same value as before if it has not changed."""
        with self._database.reading() as connection:
            summary = _read_summary(connection, name)
            known = self._recent.get(name)
            if known is not None and version_of(known) == version_of(summary):
                return known
            found = with_labels(summary, _read_labels(connection, name))
        self._recent.keep(found)
        return found

    def page(self, after: str, limit: int) -> list[LabelSetSummary]:
        """Up to limit sets whose names sort behind `after`, in order of name."""
        with self._database.reading() as connection:
            rows = connection.execute(
                f"SELECT {_SUMMARY} FROM label_sets WHERE name > ? ORDER BY name LIMIT ?",  # noqa: S608 (columns)
                (after, limit),
            ).fetchall()
        return [_summary(row) for row in rows]

    def owned(self) -> Iterator[tuple[LabelSet, str]]:
        """All sets in order of name, with the ids of their owners: one state of the file, a set at a time."""
        with self._database.reading() as connection:
            owners = connection.execute("SELECT name, owner FROM label_sets ORDER BY name").fetchall()
            for name, owner in owners:
                yield with_labels(_read_summary(connection, name), _read_labels(connection, name)), owner

    def put(
        self, name: str, content: Content, precondition: Precondition, owner: Owner = NOBODY
    ) -> tuple[LabelSetSummary, bool]:
        """Create or replace a set; the flag says that it is new."""
        check_labels(content.labels, self._max_labels, may_be_empty=True)
        etag = content.etag  # before others have to wait
        change = change_of(precondition, owner, "put", etag)
        with self._database.writing() as connection:
            if known := _find_answer(connection, name, change):
                return check_stored(name, known.summary), known.is_new
            before = _find_summary(connection, name)
            check_precondition(precondition, name, before)
            _check_quotas(connection, owner, name, len(content.labels))
            after = put_over(before, name, content)
            _write(connection, after, owner.id)
            if before is None or before.etag != etag:
                connection.execute("DELETE FROM labels WHERE label_set = ?", (name,))
                connection.executemany(
                    "INSERT INTO labels (label_set, position, name, prompts, label_key) "
                    "VALUES (?, ?, ?, ?, ?)",
                    ((name, i, *_row(label)) for i, label in enumerate(content.labels)),
                )
            _keep_answer(connection, name, change, Answer(after, is_new=before is None))
        self._recent.keep(with_labels(after, content.labels))
        return after, before is None

    def add(
        self, name: str, labels: Sequence[Label], precondition: Precondition, owner: Owner = NOBODY
    ) -> LabelSetSummary:
        """Append the labels that are new; the sum is checked like a new set."""
        check_labels(labels, self._max_labels, may_be_empty=True)
        sent = [[label.name, label.prompts] for label in labels]
        change = change_of(precondition, owner, "add", sent)
        with self._database.writing() as connection:
            if known := _find_answer(connection, name, change):
                return check_stored(name, known.summary)
            before = _read_summary(connection, name)
            check_precondition(precondition, name, before)
            edit = _add_rows(connection, name, labels)
            after = edited(before, edit)
            check_count(after.n_labels, self._max_labels)
            _check_quotas(connection, owner, name, after.n_labels)
            _write(connection, after, owner.id)
            _keep_answer(connection, name, change, Answer(after))
        self._recent.edit(before, after, edit)
        return after

    def remove(self, name: str, label: str, precondition: Precondition) -> LabelSetSummary:
        """Take one label out."""
        change = change_of(precondition, NOBODY, "remove", label)
        with self._database.writing() as connection:
            if known := _find_answer(connection, name, change):
                return check_stored(name, known.summary)
            before = _read_summary(connection, name)
            check_precondition(precondition, name, before)
            gone = connection.execute(
                "DELETE FROM labels WHERE label_set = ? AND label_key = ? RETURNING name",
                (name, label_key(label)),
            ).fetchall()
            if not gone:
                raise UnknownLabelError(f"label set {name!r} has no label {label[:80]!r}")
            edit = Edit(removed=tuple(stored for (stored,) in gone))
            after = edited(before, edit)
            _write(connection, after)
            _keep_answer(connection, name, change, Answer(after))
        self._recent.edit(before, after, edit)
        return after

    def delete(self, name: str, precondition: Precondition) -> None:
        """Delete a set."""
        change = change_of(precondition, NOBODY, "delete", None)
        with self._database.writing() as connection:
            if _find_answer(connection, name, change):
                return
            check_precondition(precondition, name, _read_summary(connection, name))
            connection.execute("DELETE FROM label_sets WHERE name = ?", (name,))
            _keep_answer(connection, name, change, Answer(None))
        self._recent.forget(name)

    def check(self) -> None:
        """Raise StoreUnavailableError when the store can't answer now."""
        self._database.check()

    def close(self) -> None:
        """Close the file."""
        self._database.close()


def _find_answer(connection: sqlite3.Connection, name: str, change: Change) -> Answer | None:
    """How a change of a set was answered before; None: it was not made, or long ago."""
    row = connection.execute(
        "SELECT answer FROM label_set_changes "
        "WHERE label_set = ? AND request = ? AND content = ? AND made >= ?",
        (name, change.request, change.content, time.time() - REMEMBERED_FOR.total_seconds()),
    ).fetchone()
    return None if row is None else Answer.read(row[0])


def _keep_answer(connection: sqlite3.Connection, name: str, change: Change, answer: Answer) -> None:
    """Keep how a change was answered, and forget those that are too old."""
    now = time.time()
    connection.execute(
        "DELETE FROM label_set_changes WHERE made < ?", (now - REMEMBERED_FOR.total_seconds(),)
    )
    connection.execute(
        "INSERT OR REPLACE INTO label_set_changes VALUES (?, ?, ?, ?, ?)",
        (name, change.request, change.content, answer.as_text(), now),
    )


def _find_summary(connection: sqlite3.Connection, name: str) -> LabelSetSummary | None:
    row = connection.execute(f"SELECT {_SUMMARY} FROM label_sets WHERE name = ?", (name,)).fetchone()  # noqa: S608 (columns)
    return None if row is None else _summary(row)


def _read_summary(connection: sqlite3.Connection, name: str) -> LabelSetSummary:
    return check_stored(name, _find_summary(connection, name))


def _summary(row: tuple[Any, ...]) -> LabelSetSummary:
    name, n_labels, templates, guarantee, etag, created, updated = row
    return LabelSetSummary(
        name=name,
        n_labels=n_labels,
        templates=None if templates is None else tuple(json.loads(templates)),
        guarantee=guarantee,
        etag=etag,
        created=datetime.fromisoformat(created),
        updated=datetime.fromisoformat(updated),
    )


def _read_labels(connection: sqlite3.Connection, name: str) -> tuple[Label, ...]:
    rows = connection.execute(
        "SELECT name, prompts FROM labels WHERE label_set = ? ORDER BY position", (name,)
    )
    return tuple(Label(label, tuple(json.loads(prompts))) for label, prompts in rows)


def _write(connection: sqlite3.Connection, summary: LabelSetSummary, owner: str | None = None) -> None:
    """Write a set but for its labels; without an owner a stored one keeps its own."""
    connection.execute(
        f"""
        INSERT INTO label_sets ({_SUMMARY}, owner) VALUES (?, ?, ?, ?, ?, ?, ?, coalesce(?, ''))
        ON CONFLICT (name) DO UPDATE SET n_labels = excluded.n_labels, templates = excluded.templates,
            guarantee = excluded.guarantee, etag = excluded.etag, updated = excluded.updated,
            owner = coalesce(?, owner)
        """,  # noqa: S608 (columns)
        (
            summary.name,
            summary.n_labels,
            None if summary.templates is None else json.dumps(summary.templates),
            summary.guarantee,
            summary.etag,
            summary.created.isoformat(),
            summary.updated.isoformat(),
            owner,
            owner,
        ),
    )


def _row(label: Label) -> tuple[str, str, str]:
    return label.name, json.dumps(label.prompts), label_key(label.name)


def _add_rows(connection: sqlite3.Connection, name: str, labels: Sequence[Label]) -> Edit:
    """Append the labels that are new, and give the others the prompts that come with them."""
    (position,) = connection.execute(
        "SELECT coalesce(max(position), -1) + 1 FROM labels WHERE label_set = ?", (name,)
    ).fetchone()
    added, prompted = [], []
    for label in labels:
        row = connection.execute(
            """
            INSERT INTO labels (label_set, position, name, prompts, label_key) VALUES (?, ?, ?, ?, ?)
            ON CONFLICT (label_set, label_key) DO UPDATE SET prompts = excluded.prompts
                WHERE excluded.prompts NOT IN ('[]', prompts)
            RETURNING position, name
            """,
            (name, position, *_row(label)),
        ).fetchone()
        if row is None:  # it is there, with these prompts
            continue
        if row[0] == position:
            added.append(label)
            position += 1
        else:
            prompted.append(Label(row[1], label.prompts))
    return Edit(added=tuple(added), prompted=tuple(prompted))


def _check_quotas(connection: sqlite3.Connection, owner: Owner, name: str, n_labels: int) -> None:
    """Check what an owner would own with a set of so many labels under that name, whoever owns it now."""
    if owner.max_label_sets is None and owner.max_labels is None:
        return
    n_others, n_their_labels = connection.execute(
        "SELECT count(*), coalesce(sum(n_labels), 0) FROM label_sets WHERE owner = ? AND name <> ?",
        (owner.id, name),
    ).fetchone()
    check_quotas(owner, n_others, n_their_labels, n_labels)
