"""The file of the label sets: brought up to date, refused, damaged. `test_store.py` has what sets do."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from service.errors import QuotaExceededError, StoreUnavailableError
from service.labels.label import Label, make_label
from service.labels.sqlite.store import SqliteLabelStore
from service.labels.store import Content, Edit, Owner, Precondition

ANY = Precondition()
TIME = "2026-01-01T00:00:00+00:00"
# As versions 0 and 1 of the file were made; sets have labels in an order that is not that of their names.
VERSION_0 = """
CREATE TABLE label_sets (
    name TEXT PRIMARY KEY, etag TEXT NOT NULL, templates TEXT, n_labels INTEGER NOT NULL,
    created TEXT NOT NULL, updated TEXT NOT NULL
) STRICT;
CREATE TABLE labels (
    label_set TEXT NOT NULL REFERENCES label_sets (name) ON DELETE CASCADE,
    position INTEGER NOT NULL, name TEXT NOT NULL, prompts TEXT NOT NULL,
    PRIMARY KEY (label_set, position)
) STRICT, WITHOUT ROWID;
INSERT INTO label_sets VALUES
    ('old', 'e', '["a {}"]', 3, '2026-01-01T00:00:00+00:00', '2026-01-01T00:00:00+00:00'),
    ('empty', 'f', NULL, 0, '2026-01-01T00:00:00+00:00', '2026-01-01T00:00:00+00:00');
INSERT INTO labels VALUES
    ('old', 0, 'Zebra', '[]'), ('old', 1, 'ant', '["an ant"]'), ('old', 2, '\uff22at', '[]');
"""
VERSION_1 = (
    VERSION_0
    + """
ALTER TABLE label_sets ADD COLUMN owner TEXT NOT NULL DEFAULT '';
UPDATE label_sets SET owner = 'k' WHERE name = 'old';
PRAGMA user_version = 1;
"""
)


def _written(path: Path, script: str) -> Path:
    with closing(sqlite3.connect(path)) as file:
        file.executescript(script)
    return path


@pytest.mark.parametrize("script", [VERSION_0, VERSION_1], ids=["version 0", "version 1"])
def test_a_file_of_an_older_version_keeps_its_sets(tmp_path: Path, script: str) -> None:
    """Labels in order, etags and times; a second opening changes nothing."""
    path = _written(tmp_path / "labels.sqlite3", script)
    for _ in range(2):
        with closing(SqliteLabelStore(path, 5, 99)) as opened:
            found = opened.get("old")
            assert found.labels == (Label("Zebra"), Label("ant", ("an ant",)), Label("\uff22at"))
            assert (found.etag, found.templates, found.guarantee) == ("e", ("a {}",), None)
            assert (found.n_labels, found.created.isoformat(), found.updated.isoformat()) == (3, TIME, TIME)
            assert found.n_characters == len("Zebraa Zebraantan antBata Bat")
            assert (opened.get("empty").labels, opened.get("empty").n_characters) == ((), 0)


def test_labels_of_an_older_version_can_be_added_to_and_removed(tmp_path: Path) -> None:
    """They are found by names that are the same, and its etag goes on from what it was."""
    path = _written(tmp_path / "labels.sqlite3", VERSION_1)
    with closing(SqliteLabelStore(path, 5, 99)) as opened:
        assert opened.add("old", [make_label("ZEBRA"), make_label("bat")], ANY).etag == "e"
        after = opened.add("old", [make_label("cow")], ANY)
        assert after.etag == Edit(added=(Label("cow"),)).etag("e")
        assert opened.remove("old", "BAT", ANY).n_labels == 3
        assert [label.name for label in opened.get("old").labels] == ["Zebra", "ant", "cow"]


def test_an_older_version_has_owners_or_nobody(tmp_path: Path) -> None:
    """Sets count for the quota of who owned them."""
    owner = Owner("k", max_label_sets=1)
    owned, nobodys = (_written(tmp_path / name, text) for name, text in (("1", VERSION_1), ("0", VERSION_0)))
    with closing(SqliteLabelStore(owned, 5, 99)) as opened, pytest.raises(QuotaExceededError):
        opened.put("new", Content(()), ANY, owner)
    with closing(SqliteLabelStore(nobodys, 5, 99)) as opened:
        opened.put("new", Content(()), ANY, owner)


def test_a_migration_that_fails_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    """Two labels of a damaged set are the same name; the older service can still read all of it."""
    path = _written(tmp_path / "labels.sqlite3", VERSION_1)
    _written(path, "INSERT INTO labels VALUES ('old', 3, 'ANT', '[]')")
    with pytest.raises(StoreUnavailableError):
        SqliteLabelStore(path, 5, 99)
    with closing(sqlite3.connect(path)) as file:
        assert file.execute("PRAGMA user_version").fetchone() == (1,)
        columns = [row[1] for row in file.execute("PRAGMA table_info(label_sets)")]
        assert "guarantee" not in columns
        assert file.execute("SELECT count(*) FROM labels").fetchone() == (4,)


def test_a_file_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    """An older service would not keep what the newer one knows."""
    path = tmp_path / "labels.sqlite3"
    SqliteLabelStore(path, 5, 99).close()
    with closing(sqlite3.connect(path)) as newer:
        newer.execute("PRAGMA user_version = 99")
    with pytest.raises(StoreUnavailableError, match="newer version"):
        SqliteLabelStore(path, 5, 99)


def test_an_unusable_place_is_refused(tmp_path: Path) -> None:
    """A file where the directory should be; the message says what to check."""
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreUnavailableError, match="exists and is writable"):
        SqliteLabelStore(tmp_path / "file" / "labels.sqlite3", 5, 99)


def test_a_damaged_file_is_an_unavailable_store(tmp_path: Path) -> None:
    """SQLite's own errors come out as one kind."""
    (tmp_path / "labels.sqlite3").write_bytes(b"this is not a database, " * 100)
    with pytest.raises(StoreUnavailableError):
        SqliteLabelStore(tmp_path / "labels.sqlite3", 5, 99)
