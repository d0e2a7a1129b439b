"""Label sets in one SQLite file, one short transaction a write."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from cachetools import LRUCache

from service.database import Database
from service.errors import (
    PreconditionFailedError,
    QuotaExceededError,
    UnknownLabelError,
    UnknownLabelSetError,
)
from service.labels.label import Label, check_count, check_labels, label_key, merge_labels
from service.labels.store import NOBODY, LabelSet, LabelSetSummary, Owner, Precondition, content_etag

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
_MIGRATIONS = ("ALTER TABLE label_sets ADD COLUMN owner TEXT NOT NULL DEFAULT ''",)
# Labels of sets that are kept as read, so that a large one is not read again for every clip.
_RECENT_LABELS = 1_000_000


class SqliteLabelStore:
    """A LabelStore in a file.

    Args:
        path: Of the file.
        max_labels: Most labels in a set.
    """

    def __init__(self, path: Path, max_labels: int) -> None:
        self._max_labels = max_labels
        self._database = Database(path, _SCHEMA, "FULL", "label", _MIGRATIONS)
        # Guarded by the lock, reads too: they change the order of use.
        self._recent: LRUCache[str, LabelSet] = LRUCache(
            _RECENT_LABELS, lambda one: min(len(one.labels) + 1, _RECENT_LABELS)
        )
        self._lock = threading.Lock()

    def get(self, name: str) -> LabelSet:
        """The set of that name; the same value as before if it has not changed."""
        with self._database.reading() as connection:
            stamp = _version(connection, name)
            with self._lock:
                known = self._recent.get(name)
            if known is not None and stamp == (known.etag, known.created, known.updated):
                return known
            found = _read(connection, name)
        with self._lock:
            self._recent[name] = found
        return found

    def page(self, after: str, limit: int) -> list[LabelSetSummary]:
        """Up to limit sets whose names sort behind `after`, in order of name."""
        with self._database.reading() as connection:
            rows = connection.execute(
                "SELECT name, n_labels, etag, updated FROM label_sets WHERE name > ? ORDER BY name LIMIT ?",
                (after, limit),
            ).fetchall()
        return [LabelSetSummary(name, n, etag, _time(updated)) for name, n, etag, updated in rows]

    def put(
        self,
        name: str,
        labels: Sequence[Label],
        templates: tuple[str, ...] | None,
        precondition: Precondition,
        owner: Owner = NOBODY,
    ) -> tuple[LabelSet, bool]:
        """Create or replace a set; the flag says that it is new."""
        check_labels(labels, self._max_labels, may_be_empty=True)
        with self._database.writing() as connection:
            etag = _etag(connection, name)
            _check(precondition, name, etag)
            _check_quotas(connection, owner, name, len(labels))
            _write(connection, name, labels, templates, owner.id)
            return _read(connection, name), etag is None

    def add(
        self, name: str, labels: Sequence[Label], precondition: Precondition, owner: Owner = NOBODY
    ) -> LabelSet:
        """Append the labels that are new; the sum is checked like a new set."""
        check_labels(labels, self._max_labels, may_be_empty=True)
        with self._database.writing() as connection:
            stored = _read(connection, name)
            _check(precondition, name, stored.etag)
            together = merge_labels(stored.labels, labels)
            check_count(len(together), self._max_labels)
            _check_quotas(connection, owner, name, len(together))
            _write(connection, name, together, stored.templates, owner.id)
            return _read(connection, name)

    def remove(self, name: str, label: str, precondition: Precondition) -> LabelSet:
        """Take one label out."""
        with self._database.writing() as connection:
            stored = _read(connection, name)
            _check(precondition, name, stored.etag)
            left = [kept for kept in stored.labels if label_key(kept.name) != label_key(label)]
            if len(left) == len(stored.labels):
                raise UnknownLabelError(f"label set {name!r} has no label {label[:80]!r}")
            _write(connection, name, left, stored.templates)
            return _read(connection, name)

    def delete(self, name: str, precondition: Precondition) -> None:
        """Delete a set."""
        with self._database.writing() as connection:
            _check(precondition, name, _read(connection, name).etag)
            connection.execute("DELETE FROM label_sets WHERE name = ?", (name,))

    def check(self) -> None:
        """Raise StoreUnavailableError when the store can't answer now."""
        self._database.check()

    def close(self) -> None:
        """Close the file."""
        self._database.close()


def _etag(connection: sqlite3.Connection, name: str) -> str | None:
    row = connection.execute("SELECT etag FROM label_sets WHERE name = ?", (name,)).fetchone()
    return None if row is None else str(row[0])


def _version(connection: sqlite3.Connection, name: str) -> tuple[str, datetime, datetime]:
    """ETag, creation and last change: two reads that agree in them read the same set."""
    row = connection.execute(
        "SELECT etag, created, updated FROM label_sets WHERE name = ?", (name,)
    ).fetchone()
    if row is None:
        raise UnknownLabelSetError(
            f"there is no label set {name!r}; create it with PUT /v1/label-sets/{name}"
        )
    return row[0], _time(row[1]), _time(row[2])


def _read(connection: sqlite3.Connection, name: str) -> LabelSet:
    etag, created, updated = _version(connection, name)
    (templates,) = connection.execute("SELECT templates FROM label_sets WHERE name = ?", (name,)).fetchone()
    labels = connection.execute(
        "SELECT name, prompts FROM labels WHERE label_set = ? ORDER BY position", (name,)
    )
    return LabelSet(
        name=name,
        labels=tuple(Label(label, tuple(json.loads(prompts))) for label, prompts in labels),
        templates=None if templates is None else tuple(json.loads(templates)),
        etag=etag,
        created=created,
        updated=updated,
    )


def _write(
    connection: sqlite3.Connection,
    name: str,
    labels: Sequence[Label],
    templates: tuple[str, ...] | None,
    owner: str | None = None,
) -> None:
    """Write a set; without an owner a stored one keeps its own."""
    now = datetime.now(UTC).isoformat()
    connection.execute(
        """
        INSERT INTO label_sets (name, etag, templates, n_labels, created, updated, owner)
        VALUES (?, ?, ?, ?, ?, ?, coalesce(?, ''))
        ON CONFLICT (name) DO UPDATE SET etag = excluded.etag, templates = excluded.templates,
            n_labels = excluded.n_labels, owner = coalesce(?, owner),
            updated = CASE WHEN etag = excluded.etag THEN updated ELSE excluded.updated END
        """,
        (
            name,
            content_etag(labels, templates),
            None if templates is None else json.dumps(templates),
            len(labels),
            now,
            now,
            owner,
            owner,
        ),
    )
    connection.execute("DELETE FROM labels WHERE label_set = ?", (name,))
    connection.executemany(
        "INSERT INTO labels (label_set, position, name, prompts) VALUES (?, ?, ?, ?)",
        [(name, i, label.name, json.dumps(label.prompts)) for i, label in enumerate(labels)],
    )


def _check(precondition: Precondition, name: str, etag: str | None) -> None:
    if precondition.absent and etag is not None:
        raise PreconditionFailedError(f"label set {name!r} exists already (If-None-Match: *)")
    wanted = precondition.etags
    if wanted is not None and etag is None:
        raise PreconditionFailedError(
            f"there is no label set {name!r} to match; leave If-Match out to make it"
        )
    if wanted is not None and not {"*", etag} & set(wanted):
        raise PreconditionFailedError(
            f"label set {name!r} has changed since you read it; read it again and repeat the change"
        )


def _check_quotas(connection: sqlite3.Connection, owner: Owner, name: str, n_labels: int) -> None:
    """Check what an owner would own with a set of so many labels under that name, whoever owns it now."""
    n_others, n_their_labels = connection.execute(
        "SELECT count(*), coalesce(sum(n_labels), 0) FROM label_sets WHERE owner = ? AND name <> ?",
        (owner.id, name),
    ).fetchone()
    if owner.max_label_sets is not None and n_others + 1 > owner.max_label_sets:
        raise QuotaExceededError(
            f"this key may own {owner.max_label_sets} label sets, and owns {n_others} others; delete one"
        )
    if owner.max_labels is not None and n_their_labels + n_labels > owner.max_labels:
        raise QuotaExceededError(
            f"this key may own {owner.max_labels} labels in all its sets; {n_their_labels} in others and "
            f"{n_labels} here would be more"
        )


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)
