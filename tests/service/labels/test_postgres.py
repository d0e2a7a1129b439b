"""Label sets in PostgreSQL: what a database brings that can be away, and whose answers can be lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing

import pytest

from service.errors import StoreUnavailableError
from service.labels.label import Label, make_label
from service.labels.store import Content, LabelSet, Precondition
from tests.service.postgres.server import Server, why_absent

if reason := why_absent():
    pytest.skip(reason, allow_module_level=True)

from service.labels.postgres.store import PostgresLabelStore
from service.postgres import database as database_module
from service.postgres.database import PostgresDatabase
from tests.service.postgres.lost_answers import lose_answers_to_commit

ANY = Precondition()
A, B, C = make_label("a"), make_label("b"), make_label("c")


@pytest.fixture
def open_store(store_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], PostgresLabelStore]]:
    """Opens the store as another replica would; a database that is away is not tried again by itself."""
    monkeypatch.setattr(database_module, "_PAUSE_S", 3600.0)
    with ExitStack() as stack:
        yield lambda: PostgresLabelStore(
            stack.enter_context(closing(PostgresDatabase(store_url, 0.5))), 9, 999
        )


@pytest.fixture
def store(open_store: Callable[[], PostgresLabelStore]) -> PostgresLabelStore:
    """One replica's."""
    return open_store()


def _names(found: LabelSet) -> list[str]:
    return [label.name for label in found.labels]


@pytest.mark.parametrize("how", ["frozen", "stopped"])
def test_a_known_set_is_served_stale_while_the_database_is_away(
    open_store: Callable[[], PostgresLabelStore],
    postgres: Server,
    monkeypatch: pytest.MonkeyPatch,
    how: str,
) -> None:
    """It says so; a set that was never read can't be served; and a change meanwhile is seen afterwards."""
    store, other = open_store(), open_store()
    before, _ = store.put("known", Content((A, B)), ANY)
    other.put("unknown", Content((A,)), ANY)
    assert not store.get("known").is_stale
    with ExitStack() as stack:
        if how == "frozen":
            stack.enter_context(postgres.frozen())
        else:
            postgres.stop()
            stack.callback(postgres.start)
        stale = store.get("known")
        assert (stale.is_stale, stale.labels, stale.etag) == (True, (A, B), before.etag)
        with pytest.raises(StoreUnavailableError):
            store.get("unknown")
        with pytest.raises(StoreUnavailableError):
            store.add("known", [C], ANY)
        store.check()
    other.remove("known", "a", ANY)
    monkeypatch.setattr(store._database, "_try_again", 0.0)
    assert not store.get("known").is_stale
    assert _names(store.get("known")) == ["b"]


def test_a_change_whose_commit_was_not_answered_is_made_once(
    store: PostgresLabelStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each kind of change is answered as if nothing had happened, under its condition."""
    store.page("", 1)
    lost = lose_answers_to_commit(monkeypatch)
    put, is_new = store.put("s", Content((A, B)), Precondition(absent=True))
    assert is_new
    lost.clear()
    added = store.add("s", [C], Precondition(etags=(put.etag,)))
    lost.clear()
    removed = store.remove("s", "a", Precondition(etags=(added.etag,)))
    assert lost == [1]
    assert store.get("s").labels == (B, C)
    assert (added.n_labels, removed.n_labels, store.get("s").etag) == (3, 2, removed.etag)
    lost.clear()
    store.delete("s", Precondition(etags=(removed.etag,)))
    assert lost == [1]
    assert store.page("", 1) == []


def test_the_longest_names_can_be_stored(store: PostgresLabelStore) -> None:
    """Characters whose compatibility form is 18 characters long: more than an index takes."""
    longest = Label("".join(chr(0x10000 + i) for i in range(128)) + "\ufdfa" * 128)
    store.put("s", Content((longest,)), ANY)
    assert store.add("s", [longest], ANY).n_labels == 1
    assert store.get("s").labels == (longest,)


def test_sessions_keep_nothing(store: PostgresLabelStore) -> None:
    """No prepared statement: a pooler may give the next transaction another session."""
    store.put("s", Content((A,)), ANY)
    for _ in range(8):
        store.get("s")
        store.add("s", [A], ANY)
    with store._database._engine.connect() as connection:
        prepared = connection.exec_driver_sql("SELECT count(*) FROM pg_prepared_statements").scalar()
    assert prepared == 0
    assert store._database.ask("SELECT count(*) FROM pg_prepared_statements") == (0,)
