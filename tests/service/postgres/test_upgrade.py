"""`ahse store upgrade`: all of it or nothing, and a service that refuses tables of another version."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from service.errors import StoreUnavailableError
from service.labels.label import Label, count_characters
from tests.conftest import Ahse
from tests.service.postgres.server import PASSWORD, Server, why_absent

if reason := why_absent():
    pytest.skip(reason, allow_module_level=True)

from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from service.postgres import upgrade as upgrade_module
from service.postgres.database import PostgresDatabase
from service.postgres.schema import REVISION, VERSION_TABLE, metadata
from service.postgres.upgrade import run_migrations, upgrade


@pytest.fixture
def empty_url(postgres: Server) -> str:
    """URL of a database without tables."""
    return postgres.url(postgres.new_database())


@pytest.fixture
def own_url(empty_url: str) -> str:
    """URL of a database with tables that the test may change."""
    upgrade(empty_url)
    return empty_url


def _set_revision(url: str, revision: str) -> None:
    with closing(PostgresDatabase(url)) as database:
        database.write(
            lambda connection: connection.execute(
                text(f"UPDATE {VERSION_TABLE} SET version_num = :new"),  # noqa: S608  (our constant)
                {"new": revision},
            )
        )


def test_the_newest_migration_is_the_version_that_the_service_needs() -> None:
    """One line of migrations, without branches, in the order of their numbers."""
    config = Config()
    config.set_main_option("script_location", str(Path(upgrade_module.__file__).parent / "migrations"))
    scripts = list(ScriptDirectory.from_config(config).walk_revisions())
    assert [script.revision for script in scripts] == sorted((one.revision for one in scripts), reverse=True)
    assert scripts[0].revision == REVISION


def test_migrations_make_the_tables_that_the_service_uses(store_url: str) -> None:
    """As Alembic compares them, and with the same collations and constraints."""
    with closing(PostgresDatabase(store_url)) as database:
        options = {"version_table": VERSION_TABLE, "compare_type": True}
        found = database.read(
            lambda connection: compare_metadata(
                MigrationContext.configure(connection, opts=options), metadata
            )
        )
        collations = database.read(
            lambda connection: connection.execute(
                text(
                    "SELECT table_name, column_name FROM information_schema.columns "
                    "WHERE collation_name = 'C' AND table_schema = 'public'"
                )
            ).all()
        )
    assert found == []
    wanted = {
        (table.name, column.name)
        for table in metadata.sorted_tables
        for column in table.columns
        if getattr(column.type, "collation", None) == "C"
    }
    assert {tuple(one) for one in collations} == wanted


def test_an_upgrade_is_made_once(empty_url: str) -> None:
    """However many are started at once; the next one has nothing to do."""
    with ThreadPoolExecutor(4) as threads:
        done = list(threads.map(upgrade, [empty_url] * 4))
    assert sorted(done, key=str) == sorted([(None, REVISION), *[(REVISION, REVISION)] * 3], key=str)
    assert upgrade(empty_url) == (REVISION, REVISION)


def test_an_upgrade_that_fails_changes_nothing(empty_url: str) -> None:
    """A table of that name is there already: neither the others nor a version is kept."""
    with closing(PostgresDatabase(empty_url)) as database:
        database.write(lambda connection: connection.execute(text("CREATE TABLE labels ()")))
        with pytest.raises(StoreUnavailableError):
            upgrade(empty_url)
        rows = database.ask("SELECT string_agg(tablename, ',') FROM pg_tables WHERE schemaname = 'public'")
    assert rows == ("labels",)


@pytest.mark.parametrize(
    ("revision", "message"), [("0000", "older version; run: ahse store upgrade"), ("9999", "newer version")]
)
def test_tables_of_another_version_are_refused(own_url: str, revision: str, message: str) -> None:
    """With what to do."""
    _set_revision(own_url, revision)
    with (
        closing(PostgresDatabase(own_url)) as database,
        pytest.raises(StoreUnavailableError, match=message),
    ):
        database.check_version()


def test_a_newer_database_is_not_upgraded(own_url: str) -> None:
    """It stays as it is."""
    _set_revision(own_url, "9999")
    with pytest.raises(StoreUnavailableError, match="newer version"):
        upgrade(own_url)


def test_an_upgrade_keeps_what_is_stored(empty_url: str) -> None:
    """Of the first version, whose only tables were those of label sets."""
    with closing(PostgresDatabase(empty_url)) as database:
        database.write(lambda connection: run_migrations(connection, "0001"))
        database.write(
            lambda connection: connection.execute(
                text("INSERT INTO label_sets VALUES ('s', 'e', NULL, NULL, 0, now(), now(), '', '')")
            )
        )
        assert upgrade(empty_url) == ("0001", REVISION)
        database.check_version()
        assert database.ask("SELECT name, etag FROM label_sets") == ("s", "e")


def test_the_characters_of_sets_are_counted_at_the_upgrade(empty_url: str) -> None:
    """As the service counts them; answers to changes, which do not say, are forgotten."""
    labels, templates = (Label("\U0001f436 {}", ("{} {}", 'a "\u00e9"')), Label("red")), ("a {}", "\u00e9 {}")
    insert_set = text(
        "INSERT INTO label_sets VALUES (:label_set, 'e', :templates, NULL, 2, now(), now(), '')"
    )
    insert_label = text("INSERT INTO labels VALUES (:label_set, :position, :name, :prompts, :hash)")
    insert_change = text("INSERT INTO label_set_changes VALUES ('s', '', '', '{}', now())")
    rows = [
        {
            "label_set": "s",
            "position": i,
            "name": one.name,
            "prompts": json.dumps(one.prompts),
            "hash": bytes([i]),
        }
        for i, one in enumerate(labels)
    ]

    def fill(connection: Connection) -> None:
        run_migrations(connection, "0006")
        connection.execute(insert_set, {"label_set": "s", "templates": json.dumps(templates)})
        connection.execute(insert_set, {"label_set": "without", "templates": None})
        connection.execute(insert_label, rows + [one | {"label_set": "without"} for one in rows])
        connection.execute(insert_set, {"label_set": "empty", "templates": None})
        connection.execute(insert_change)

    with closing(PostgresDatabase(empty_url)) as database:
        database.write(fill)
        upgrade(empty_url)
        counted = database.ask("SELECT array_agg(n_characters ORDER BY name DESC) FROM label_sets")
        assert counted == ([count_characters(labels, None), count_characters(labels, templates), 0],)
        assert database.ask("SELECT count(*) FROM label_set_changes") == (0,)


def test_replicas_that_have_jobs_before_they_were_told_apart_are_seen_at_the_upgrade(empty_url: str) -> None:
    """Else nobody would ever find that one of them is gone."""
    job = (
        "INSERT INTO jobs VALUES "
        "(:id, :replica, '', 'queued', 1, 0, 0, 1, 0, NULL, NULL, NULL, 0, 0, NULL, '[]')"
    )
    rows = [{"id": str(number), "replica": name} for number, name in enumerate("aab")]
    with closing(PostgresDatabase(empty_url)) as database:
        database.write(lambda connection: run_migrations(connection, "0005"))
        database.write(lambda connection: connection.execute(text(job), rows))
        upgrade(empty_url)
        seen = database.ask(
            "SELECT array_agg(id ORDER BY id) FROM replicas WHERE seen > now() - interval '1 h'"
        )
    assert seen == (["a", "b"],)


def test_the_commands_on_a_store(ahse: Ahse, empty_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the upgrade it is asked for; afterwards label sets are kept there. No password is printed."""
    monkeypatch.setenv("AHSE_STORE", empty_url.replace(PASSWORD, "wrong"))
    unreached = [ahse("labels", "ls"), ahse("store", "upgrade")]
    monkeypatch.setenv("AHSE_STORE", empty_url)
    before = ahse("labels", "ls")
    upgraded, again = ahse("store", "upgrade"), ahse("store", "upgrade")
    put = ahse("labels", "put", "tools", "bead", "gear")
    shown = ahse("labels", "ls", "--json")
    assert [one[0] for one in (before, upgraded, again, put, shown)] == [2, 0, 0, 0, 0]
    for code, said, complaint in unreached:
        assert (code, said) == (2, "")
        assert "its address and name, and the user, password" in complaint
    assert "has no tables of the service; run: ahse store upgrade" in before[2]
    assert f"from nothing to version {REVISION}" in upgraded[2]
    assert f"version {REVISION} already" in again[2]
    assert '"tools"' in shown[1]
    assert PASSWORD not in str((before, upgraded, again, put, shown))
