"""The database that replicas share: deadlines, lost connections, one kind of error, no password anywhere."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest
from structlog.testing import capture_logs

from service.errors import StoreUnavailableError, UnknownLabelError
from tests.service.postgres.server import PASSWORD, Server, why_absent

if reason := why_absent():
    pytest.skip(reason, allow_module_level=True)

import psycopg
from sqlalchemy import Connection, func, text

from service.postgres import database as database_module
from service.postgres.connection import TimedConnection
from service.postgres.database import PostgresDatabase
from service.postgres.schema import label_sets

SHORT_S = 0.3


@pytest.fixture
def database(store_url: str) -> Iterator[PostgresDatabase]:
    """A database with empty tables and short deadlines."""
    with closing(PostgresDatabase(store_url, SHORT_S)) as opened:
        opened.check_version()
        yield opened


def _insert(connection: Connection) -> None:
    times = {"created": func.now(), "updated": func.now()}
    row = label_sets.insert().values(name="s", etag="", n_labels=0, n_characters=0, owner="", **times)
    connection.execute(row)


def _n_sets(database: PostgresDatabase) -> int:
    row = database.ask("SELECT count(*) FROM label_sets")
    assert row is not None
    return int(row[0])


def test_an_error_keeps_nothing_of_a_transaction(database: PostgresDatabase) -> None:
    """Neither one of the database nor one of the work; errors of the work come out as they are."""

    def work(connection: Connection) -> None:
        _insert(connection)
        raise UnknownLabelError("x")

    def faulty(connection: Connection) -> None:
        _insert(connection)
        _insert(connection)

    with pytest.raises(UnknownLabelError):
        database.write(work)
    with pytest.raises(StoreUnavailableError):
        database.write(faulty)
    assert _n_sets(database) == 0
    assert not database.is_away


def test_a_read_sees_one_state(database: PostgresDatabase) -> None:
    """Whatever is committed between its statements; it can't write."""

    def work(connection: Connection) -> list[int]:
        counts = [connection.execute(text("SELECT count(*) FROM label_sets")).scalar_one()]
        database.write(_insert)
        return [*counts, connection.execute(text("SELECT count(*) FROM label_sets")).scalar_one()]

    assert database.read(work) == [0, 0]
    assert _n_sets(database) == 1
    with pytest.raises(StoreUnavailableError):
        database.read(_insert)


@pytest.mark.parametrize("what", ["ask", "read", "write"])
def test_a_frozen_server_costs_a_deadline_once(
    database: PostgresDatabase, postgres: Server, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """From then on all are told at once, until a later try succeeds; each change is logged once."""
    monkeypatch.setattr(database_module, "_PAUSE_S", 3600.0)
    uses: dict[str, Callable[[], object]] = {
        "ask": lambda: database.ask("SELECT 1"),
        "read": lambda: database.read(lambda connection: connection.execute(text("SELECT 1")).scalar()),
        "write": lambda: database.write(_insert),
    }
    database.ask("SELECT 1")
    with capture_logs() as logs:
        with postgres.frozen():
            began = time.monotonic()
            with pytest.raises(StoreUnavailableError, match="does not answer"):
                uses[what]()
            took_s = time.monotonic() - began
            assert database.is_away
            for use in uses.values():
                with pytest.raises(StoreUnavailableError):
                    use()
        # Of one deadline, or one of connecting; three more would have been paid for the rest.
        assert took_s < 5 * SHORT_S
        assert time.monotonic() - began < took_s + SHORT_S
        with pytest.raises(StoreUnavailableError):
            uses[what]()
        monkeypatch.setattr(database, "_try_again", 0.0)
        uses[what]()
        assert not database.is_away
    assert [log["event"] for log in logs] == ["store_away", "store_back"]


def test_connections_that_a_restart_has_ended_are_made_anew(
    database: PostgresDatabase, postgres: Server
) -> None:
    """No request notices."""
    database.write(_insert)
    postgres.stop()
    postgres.start()
    assert _n_sets(database) == 1
    assert database.read(lambda connection: connection.execute(text("SELECT 1")).scalar()) == 1
    assert not database.is_away


def test_work_whose_commit_was_not_answered_is_done_again(
    database: PostgresDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection is lost after the server has committed: the work finds what it has done."""
    commit, found = TimedConnection.commit, list[int]()

    def lose_first(connection: TimedConnection) -> None:
        commit(connection)
        if len(found) == 1:
            connection.close()
            raise psycopg.OperationalError("lost")

    def work(connection: Connection) -> None:
        found.append(connection.execute(text("SELECT count(*) FROM label_sets")).scalar_one())
        if found[-1] == 0:
            _insert(connection)

    monkeypatch.setattr(TimedConnection, "commit", lose_first)
    database.write(work)
    assert found == [0, 1]
    assert _n_sets(database) == 1


def test_a_lock_that_others_hold_is_not_an_absent_database(
    database: PostgresDatabase, store_url: str
) -> None:
    """The write is refused in time, and reads go on."""
    with psycopg.connect(store_url) as holder:
        holder.execute("SELECT pg_advisory_lock(1)")
        with pytest.raises(StoreUnavailableError):
            database.write(lambda connection: connection.execute(text("SELECT pg_advisory_xact_lock(1)")))
        assert not database.is_away
    database.write(lambda connection: connection.execute(text("SELECT pg_advisory_xact_lock(1)")))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("//ahse:", "//stranger:"),
        (PASSWORD, "wrong-password"),
        ("/ahse-postgres", "/no-such-folder"),
        (PASSWORD, "p%ss-not-encoded"),
    ],
)
def test_a_database_that_cannot_be_used_says_nothing_secret(
    store_url: str, old: str, new: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither in the error, nor in its causes, nor in the log, those of the libraries included."""
    caplog.set_level(logging.DEBUG)
    url = store_url.replace(old, new)
    with (
        capture_logs() as logs,
        closing(PostgresDatabase(url, SHORT_S)) as database,
        pytest.raises(StoreUnavailableError, match="its address and name, and the user") as raised,
    ):
        database.check_version()
    assert raised.value.__cause__ is None
    assert raised.value.__suppress_context__
    for secret in (PASSWORD, "wrong-password", "p%ss", "ahse-postgres"):
        assert secret not in str(logs)
        assert secret not in caplog.text
        assert secret not in raised.value.message


def test_a_database_that_refuses_something_is_there(
    database: PostgresDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it refuses is no reason to go on without it."""
    monkeypatch.setattr(database, "_is_away", True)
    monkeypatch.setattr(database, "_try_again", 0.0)
    with pytest.raises(StoreUnavailableError):
        database.ask("SELECT 1 FROM no_such_table")
    assert not database.is_away
    assert database.ask("SELECT 1") == (1,)


def test_a_try_while_the_database_is_away_holds_up_nobody(
    database: PostgresDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others are told at once, though the one that tries has the connection."""
    monkeypatch.setattr(database, "_is_away", True)
    monkeypatch.setattr(database, "_try_again", 0.0)
    with database._ask_lock, pytest.raises(StoreUnavailableError):
        database.ask("SELECT 1")
    database.ask("SELECT 1")
    assert not database.is_away
