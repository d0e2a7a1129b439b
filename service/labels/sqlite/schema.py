"""The tables of label sets in SQLite, and how files of older versions are brought up to them."""

from __future__ import annotations

import json
import sqlite3

from service.database import Migration
from service.labels.changes import read_templates
from service.labels.label import Label, count_characters, label_key

TABLES = """
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
"""As the first version made them."""


def _add_keys(connection: sqlite3.Connection) -> None:
    """Let a label be found by what makes its name the same as another."""
    connection.create_function("label_key", 1, label_key, deterministic=True)
    connection.execute("ALTER TABLE labels ADD COLUMN label_key TEXT NOT NULL DEFAULT ''")
    connection.execute("UPDATE labels SET label_key = label_key(name)")
    connection.execute("CREATE UNIQUE INDEX labels_by_key ON labels (label_set, label_key)")


def _add_characters(connection: sqlite3.Connection) -> None:
    """Say how much text each set has. Kept answers don't, and have templates: they are forgotten."""
    connection.execute("ALTER TABLE label_sets ADD COLUMN n_characters INTEGER NOT NULL DEFAULT 0")
    for name, templates in connection.execute("SELECT name, templates FROM label_sets").fetchall():
        rows = connection.execute("SELECT name, prompts FROM labels WHERE label_set = ?", (name,))
        labels = (Label(label, tuple(json.loads(prompts))) for label, prompts in rows)
        n_characters = count_characters(labels, read_templates(templates))
        connection.execute("UPDATE label_sets SET n_characters = ? WHERE name = ?", (n_characters, name))
    connection.execute("DELETE FROM label_set_changes")


MIGRATIONS: tuple[Migration, ...] = (
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
    _add_characters,
)
