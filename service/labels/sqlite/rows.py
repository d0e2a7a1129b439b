"""The rows of label sets, of their labels and of their changes: read and written inside a transaction."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from service.labels.changes import (
    MAX_PAGE_TEMPLATES,
    check_quotas,
    found_set,
    read_templates,
    with_labels,
)
from service.labels.label import Label, label_key
from service.labels.repeats import REMEMBERED_FOR, Answer, Change
from service.labels.store import Edit, LabelSet, LabelSetSummary, Owner

_SUMMARY = "name, n_labels, n_characters, templates, guarantee, etag, created, updated"
_ADD = "INSERT INTO labels (label_set, position, name, prompts, label_key) VALUES (?, ?, ?, ?, ?)"


def lock_set(connection: sqlite3.Connection, name: str, owner: Owner) -> None:
    """Nothing: a transaction that writes keeps all others away from its beginning."""


def find_answer(connection: sqlite3.Connection, name: str, change: Change) -> Answer | None:
    """How a change of a set was answered before; None: it was not made, or long ago."""
    row = connection.execute(
        "SELECT answer, (SELECT templates FROM label_sets WHERE name = label_set) FROM label_set_changes "
        "WHERE label_set = ? AND request = ? AND content = ? AND made >= ?",
        (name, change.request, change.content, time.time() - REMEMBERED_FOR.total_seconds()),
    ).fetchone()
    return None if row is None else Answer.read(row[0], read_templates(row[1]))


def keep_answer(connection: sqlite3.Connection, name: str, change: Change, answer: Answer) -> None:
    """Keep how a change was answered, and forget those that are too old."""
    now = time.time()
    connection.execute(
        "DELETE FROM label_set_changes WHERE made < ?", (now - REMEMBERED_FOR.total_seconds(),)
    )
    connection.execute(
        "INSERT OR REPLACE INTO label_set_changes VALUES (?, ?, ?, ?, ?)",
        (name, change.request, change.content, answer.as_text(), now),
    )


def find_set(connection: sqlite3.Connection, name: str) -> LabelSetSummary | None:
    """A set but for its labels."""
    row = connection.execute(f"SELECT {_SUMMARY} FROM label_sets WHERE name = ?", (name,)).fetchone()  # noqa: S608 (columns)
    return None if row is None else _summary(row)


def check_owner(connection: sqlite3.Connection, owner: Owner, name: str, n_labels: int) -> None:
    """Check what an owner would own with a set of so many labels under that name, whoever owns it now."""
    if owner.max_label_sets is None and owner.max_labels is None:
        return
    n_others, n_their_labels = connection.execute(
        "SELECT count(*), coalesce(sum(n_labels), 0) FROM label_sets WHERE owner = ? AND name <> ?",
        (owner.id, name),
    ).fetchone()
    check_quotas(owner, n_others, n_their_labels, n_labels)


def read_page(connection: sqlite3.Connection, after: str, limit: int) -> list[LabelSetSummary]:
    """Up to limit sets whose names sort behind `after`; fewer where their templates are long."""
    rows = connection.execute(
        f"SELECT {_SUMMARY}, length(templates) FROM label_sets WHERE name > ? ORDER BY name LIMIT ?",  # noqa: S608 (columns)
        (after, limit),
    )
    page: list[LabelSetSummary] = []
    n_characters = 0
    for *row, n in rows:  # one by one: the rest of them is not read
        n_characters += n or 0
        if n_characters > MAX_PAGE_TEMPLATES:
            break
        page.append(_summary(row))
    return page


def read_owners(connection: sqlite3.Connection) -> list[tuple[str, str]]:
    """Names of all sets in their order, with the ids of their owners."""
    return connection.execute("SELECT name, owner FROM label_sets ORDER BY name").fetchall()


def read_version(connection: sqlite3.Connection, name: str) -> tuple[str, datetime, datetime] | None:
    """What tells versions of a set apart, as `version_of` has it; None: there is no such set."""
    row = connection.execute(
        "SELECT etag, created, updated FROM label_sets WHERE name = ?", (name,)
    ).fetchone()
    return None if row is None else (row[0], *map(datetime.fromisoformat, row[1:]))


def read_set(connection: sqlite3.Connection, name: str) -> LabelSet:
    """A whole set."""
    summary = found_set(name, find_set(connection, name))
    rows = connection.execute(
        "SELECT name, prompts FROM labels WHERE label_set = ? ORDER BY position", (name,)
    )
    return with_labels(summary, tuple(map(_label, rows)))


def _summary(row: tuple[Any, ...]) -> LabelSetSummary:
    name, n_labels, n_characters, templates, guarantee, etag, created, updated = row
    return LabelSetSummary(
        name=name,
        n_labels=n_labels,
        n_characters=n_characters,
        templates=read_templates(templates),
        guarantee=guarantee,
        etag=etag,
        created=datetime.fromisoformat(created),
        updated=datetime.fromisoformat(updated),
    )


def write_set(connection: sqlite3.Connection, summary: LabelSetSummary, owner: Owner) -> None:
    """Write a set but for its labels."""
    connection.execute(
        f"""
        INSERT INTO label_sets ({_SUMMARY}, owner) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
        ON CONFLICT (name) DO UPDATE SET n_labels = excluded.n_labels, n_characters = excluded.n_characters,
            templates = excluded.templates, guarantee = excluded.guarantee, etag = excluded.etag,
            updated = excluded.updated, owner = excluded.owner
        """,  # noqa: S608 (columns)
        (
            summary.name,
            summary.n_labels,
            summary.n_characters,
            None if summary.templates is None else json.dumps(summary.templates),
            summary.guarantee,
            summary.etag,
            summary.created.isoformat(),
            summary.updated.isoformat(),
            owner.id,
        ),
    )


def update_set(connection: sqlite3.Connection, summary: LabelSetSummary, owner: Owner | None = None) -> None:
    """Write what an edit changes of a set but for its labels; without an owner it keeps its own."""
    connection.execute(
        "UPDATE label_sets SET n_labels = ?, n_characters = ?, etag = ?, updated = ?, "
        "owner = coalesce(?, owner) WHERE name = ?",
        (
            summary.n_labels,
            summary.n_characters,
            summary.etag,
            summary.updated.isoformat(),
            None if owner is None else owner.id,
            summary.name,
        ),
    )


def replace_labels(connection: sqlite3.Connection, name: str, labels: Sequence[Label]) -> None:
    """Write all labels of a set."""
    connection.execute("DELETE FROM labels WHERE label_set = ?", (name,))
    connection.executemany(_ADD, ((name, i, *_row(label)) for i, label in enumerate(labels)))


def merge_labels(connection: sqlite3.Connection, name: str, labels: Sequence[Label]) -> Edit:
    """Append the labels that are new, and give the others the prompts that come with them."""
    (position,) = connection.execute(
        "SELECT coalesce(max(position), -1) + 1 FROM labels WHERE label_set = ?", (name,)
    ).fetchone()
    added, known = [], []
    for label in labels:
        done = connection.execute(
            f"{_ADD} ON CONFLICT (label_set, label_key) DO NOTHING", (name, position, *_row(label))
        )
        if done.rowcount:
            added.append(label)
            position += 1
        elif label.prompts:
            known.append(label)
    replaced, prompted = _prompt_rows(connection, name, known)
    return Edit(added=tuple(added), prompted=prompted, replaced=replaced)


def _prompt_rows(
    connection: sqlite3.Connection, name: str, labels: Sequence[Label]
) -> tuple[tuple[Label, ...], tuple[Label, ...]]:
    """Give labels that are there other prompts: those that had others, as they were and as they are."""
    pairs = []
    for label in labels:
        _, prompts, key = _row(label)
        stored = _label(
            connection.execute(
                "SELECT name, prompts FROM labels WHERE label_set = ? AND label_key = ?", (name, key)
            ).fetchone()
        )
        if stored.prompts != label.prompts:
            connection.execute(
                "UPDATE labels SET prompts = ? WHERE label_set = ? AND label_key = ?", (prompts, name, key)
            )
            pairs.append((stored, Label(stored.name, label.prompts)))
    return tuple(old for old, _ in pairs), tuple(new for _, new in pairs)


def remove_label(connection: sqlite3.Connection, name: str, label: str) -> Label | None:
    """Take out a label whose name is the same; None: there is none."""
    row = connection.execute(
        "DELETE FROM labels WHERE label_set = ? AND label_key = ? RETURNING name, prompts",
        (name, label_key(label)),
    ).fetchone()
    return None if row is None else _label(row)


def delete_set(connection: sqlite3.Connection, name: str) -> None:
    """Delete a set with its labels."""
    connection.execute("DELETE FROM label_sets WHERE name = ?", (name,))


def _row(label: Label) -> tuple[str, str, str]:
    return label.name, json.dumps(label.prompts), label_key(label.name)


def _label(row: tuple[str, str]) -> Label:
    name, prompts = row
    return Label(name, tuple(json.loads(prompts)))
