"""Label sets in one SQLite file: WAL mode, one short transaction a write."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from service.errors import (
    PreconditionFailedError,
    StoreUnavailableError,
    UnknownLabelError,
    UnknownLabelSetError,
)
from service.labels.label import Label, check_labels, label_key
from service.labels.store import LabelSet, LabelSetSummary, Precondition, content_etag

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
_BUSY_TIMEOUT_S = 5.0


class SqliteLabelStore:
    """A LabelStore in a file. Each thread has its own connection, so that readers never wait for a writer."""

    def __init__(self, path: Path, max_labels: int) -> None:
        self._path = path
        self._max_labels = max_labels
        self._threads = threading.local()
        self._connections: list[sqlite3.Connection] = []
        self._lock = threading.Lock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            connection = self._connection()
            connection.execute("PRAGMA journal_mode = WAL")
            connection.executescript(_SCHEMA)
        except (OSError, sqlite3.Error) as error:
            raise StoreUnavailableError(
                "the label store can't be opened; check that its directory exists and is writable"
            ) from error

    def get(self, name: str) -> LabelSet:
        """The set of that name."""
        with self._reading() as connection:
            return _read(connection, name)

    def page(self, after: str, limit: int) -> list[LabelSetSummary]:
        """Up to limit sets whose names sort behind `after`, in order of name."""
        with self._reading() as connection:
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
    ) -> tuple[LabelSet, bool]:
        """Create or replace a set; the flag says that it is new."""
        check_labels(labels, self._max_labels)
        with self._writing() as connection:
            etag = _etag(connection, name)
            _check(precondition, name, etag)
            _write(connection, name, labels, templates)
            return _read(connection, name), etag is None

    def add(self, name: str, labels: Sequence[Label], precondition: Precondition) -> LabelSet:
        """Append labels; the sum is checked like a new set."""
        with self._writing() as connection:
            stored = _read(connection, name)
            _check(precondition, name, stored.etag)
            together = [*stored.labels, *labels]
            check_labels(together, self._max_labels)
            _write(connection, name, together, stored.templates)
            return _read(connection, name)

    def remove(self, name: str, label: str, precondition: Precondition) -> LabelSet:
        """Take one label out."""
        with self._writing() as connection:
            stored = _read(connection, name)
            _check(precondition, name, stored.etag)
            left = [kept for kept in stored.labels if label_key(kept.name) != label_key(label)]
            if len(left) == len(stored.labels):
                raise UnknownLabelError(f"label set {name!r} has no label {label[:80]!r}")
            _write(connection, name, left, stored.templates)
            return _read(connection, name)

    def delete(self, name: str, precondition: Precondition) -> None:
        """Delete a set."""
        with self._writing() as connection:
            _check(precondition, name, _read(connection, name).etag)
            connection.execute("DELETE FROM label_sets WHERE name = ?", (name,))

    def check(self) -> None:
        """Raise StoreUnavailableError when the store can't answer now."""
        with self._reading() as connection:
            connection.execute("SELECT count(*) FROM label_sets").fetchone()

    def close(self) -> None:
        """Close every thread's connection."""
        with self._lock:
            for connection in self._connections:
                connection.close()
            self._connections.clear()

    def _connection(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = getattr(self._threads, "connection", None)
        if connection is None:
            connection = sqlite3.connect(
                self._path, timeout=_BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
            )
            # With WAL, FULL makes an acknowledged write survive a power cut.
            connection.executescript("PRAGMA foreign_keys = ON; PRAGMA synchronous = FULL;")
            self._threads.connection = connection
            with self._lock:
                self._connections.append(connection)
        return connection

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with self._transaction("BEGIN") as connection:
            yield connection

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._transaction("BEGIN IMMEDIATE") as connection:
            yield connection

    @contextmanager
    def _transaction(self, begin: str) -> Iterator[sqlite3.Connection]:
        """One transaction: all of it is kept, or after any error none of it."""
        try:
            connection = self._connection()
            connection.execute(begin)
            try:
                yield connection
            except BaseException:
                connection.execute("ROLLBACK")
                raise
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            raise StoreUnavailableError("the label store does not answer; try again later") from error


def _etag(connection: sqlite3.Connection, name: str) -> str | None:
    row = connection.execute("SELECT etag FROM label_sets WHERE name = ?", (name,)).fetchone()
    return None if row is None else str(row[0])


def _read(connection: sqlite3.Connection, name: str) -> LabelSet:
    row = connection.execute(
        "SELECT etag, templates, created, updated FROM label_sets WHERE name = ?", (name,)
    ).fetchone()
    if row is None:
        raise UnknownLabelSetError(
            f"there is no label set {name!r}; create it with PUT /v1/label-sets/{name}"
        )
    etag, templates, created, updated = row
    labels = connection.execute(
        "SELECT name, prompts FROM labels WHERE label_set = ? ORDER BY position", (name,)
    )
    return LabelSet(
        name=name,
        labels=tuple(Label(label, tuple(json.loads(prompts))) for label, prompts in labels),
        templates=None if templates is None else tuple(json.loads(templates)),
        etag=etag,
        created=_time(created),
        updated=_time(updated),
    )


def _write(
    connection: sqlite3.Connection, name: str, labels: Sequence[Label], templates: tuple[str, ...] | None
) -> None:
    now = datetime.now(UTC).isoformat()
    connection.execute(
        """
        INSERT INTO label_sets (name, etag, templates, n_labels, created, updated)
        VALUES (?, ?, ?, ?, ?, ?)
        ON CONFLICT (name) DO UPDATE SET etag = excluded.etag, templates = excluded.templates,
            n_labels = excluded.n_labels,
            updated = CASE WHEN etag = excluded.etag THEN updated ELSE excluded.updated END
        """,
        (
            name,
            content_etag(labels, templates),
            None if templates is None else json.dumps(templates),
            len(labels),
            now,
            now,
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


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)
