"""`ahse store import`: label sets and keys from the files of a data directory into a database."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from service.access.keys import ApiKey, Quotas, make_key
from service.access.sqlite import SqliteKeyStore
from service.errors import PreconditionFailedError
from service.labels.label import make_label
from service.labels.sqlite.store import SqliteLabelStore
from service.labels.store import Content, Owner, Precondition
from service.settings import Settings
from tests.conftest import Ahse
from tests.service.jobs.conftest import LIMITS, add
from tests.service.postgres.server import PASSWORD, why_absent

if reason := why_absent():
    pytest.skip(reason, allow_module_level=True)

from service.access.postgres import PostgresKeyStore
from service.cli.store_import import Imported, import_files
from service.jobs.sqlite.store import SqliteJobStore
from service.labels.postgres.store import PostgresLabelStore
from service.postgres.database import PostgresDatabase

ANY = Precondition()
A, B, C = make_label("a", ["an a", "{}"]), make_label("b"), make_label("c")


@pytest.fixture
def key() -> ApiKey:
    """One with all that a key may have."""
    return make_key("k", frozenset({"labels"}), rate="9/minute", quotas=Quotas(label_sets=3, jobs=1))[0]


@pytest.fixture
def files(tmp_path: Path, key: ApiKey) -> Path:
    """A data directory with a key, a set of its own with everything, and one that was edited."""
    with closing(SqliteKeyStore(tmp_path / "keys.sqlite3")) as keys:
        keys.create(key)
    with closing(SqliteLabelStore(tmp_path / "labels.sqlite3", 9, 99)) as sets:
        sets.put("whole", Content((A, B), ("a {}.",), 0.9), ANY, Owner(key.id))
        sets.put("edited", Content((B,)), ANY)
        sets.add("edited", [C], ANY)
        sets.put("empty", Content(()), ANY)
    return tmp_path


@pytest.fixture
def database(store_url: str) -> Iterator[PostgresDatabase]:
    """A database with empty tables."""
    with closing(PostgresDatabase(store_url)) as opened:
        yield opened


def test_everything_arrives_as_it_was(
    files: Path, key: ApiKey, store_url: str, database: PostgresDatabase
) -> None:
    """Labels, prompts, templates, guarantees, ETags, times, owners; and again: nothing is left to do."""
    settings = Settings(data_dir=files)
    assert import_files(store_url, settings) == (Imported(3, 0), Imported(1, 0))
    stored = PostgresLabelStore(database, 9, 99)
    with closing(SqliteLabelStore(files / "labels.sqlite3", 9, 99)) as sets:
        for name in ("whole", "edited", "empty"):
            assert stored.get(name) == sets.get(name)
    assert PostgresKeyStore(database).list() == [key]
    assert database.ask("SELECT name FROM label_sets WHERE owner = %s", (key.id,)) == ("whole",)
    assert stored.remove("edited", "b", ANY).n_labels == 1
    stored.put("edited", Content((B, C)), ANY)
    assert import_files(store_url, settings) == (Imported(0, 3), Imported(0, 1))


def test_another_set_of_the_same_name_keeps_all_out(
    files: Path, store_url: str, database: PostgresDatabase
) -> None:
    """It is named, and stays; nothing else is written."""
    stored = PostgresLabelStore(database, 9, 99)
    stored.put("whole", Content((B, A), ("a {}.",), 0.9), ANY)
    with pytest.raises(
        PreconditionFailedError, match="other label sets under 1 of the names in the files: whole"
    ):
        import_files(store_url, Settings(data_dir=files))
    assert [one.name for one in stored.page("", 9)] == ["whole"]
    assert stored.get("whole").labels == (B, A)
    assert PostgresKeyStore(database).list() == []


def test_another_key_of_the_same_id_keeps_all_out(
    files: Path, key: ApiKey, store_url: str, database: PostgresDatabase
) -> None:
    """Ids are short: by chance two could be the same."""
    other = ApiKey(key.id, "other", bytes(32), frozenset({"classify"}), key.created)
    PostgresKeyStore(database).create(other)
    with pytest.raises(PreconditionFailedError, match=f"other API keys .*{key.id}"):
        import_files(store_url, Settings(data_dir=files))
    assert PostgresKeyStore(database).list() == [other]
    assert PostgresLabelStore(database, 9, 99).page("", 9) == []


def test_the_command_counts_and_warns(
    ahse: Ahse, files: Path, store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of jobs that have not ended; an empty directory and a missing setting are named. No password."""
    with closing(SqliteJobStore(files, LIMITS)) as jobs:
        add(jobs)
    unset = ahse("store", "import", "--data-dir", files)
    monkeypatch.setenv("AHSE_STORE", store_url)
    empty = ahse("store", "import", "--data-dir", files / "nothing")
    code, said, told = ahse("store", "import", "--data-dir", files)
    assert [unset[0], empty[0], code, said] == [2, 2, 0, ""]
    assert "AHSE_STORE is not set" in unset[2]
    assert "neither label sets nor API keys" in empty[2]
    assert not (files / "nothing").exists()
    assert "imported 3 label sets and 1 API keys; 0 and 0 were there already" in told
    assert "1 have not ended" in told
    assert PASSWORD not in str((unset, empty, told))
