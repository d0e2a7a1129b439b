"""Label sets in SQLite: durable, whole, and safe from several threads."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from service.errors import (
    DuplicateLabelsError,
    PreconditionFailedError,
    QuotaExceededError,
    StoreUnavailableError,
    TooManyLabelsError,
    UnknownLabelError,
    UnknownLabelSetError,
)
from service.labels.label import Label, make_label
from service.labels.sqlite import SqliteLabelStore
from service.labels.store import Owner, Precondition

ANY = Precondition()
FIRST_VERSION = """
CREATE TABLE label_sets (
    name TEXT PRIMARY KEY, etag TEXT NOT NULL, templates TEXT, n_labels INTEGER NOT NULL,
    created TEXT NOT NULL, updated TEXT NOT NULL
) STRICT;
CREATE TABLE labels (
    label_set TEXT NOT NULL REFERENCES label_sets (name) ON DELETE CASCADE,
    position INTEGER NOT NULL, name TEXT NOT NULL, prompts TEXT NOT NULL,
    PRIMARY KEY (label_set, position)
) STRICT, WITHOUT ROWID;
INSERT INTO label_sets VALUES ('old', 'e', NULL, 1, '2026-01-01T00:00:00+00:00', '2026-01-01T00:00:00+00:00');
INSERT INTO labels VALUES ('old', 0, 'ant', '[]');
"""


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteLabelStore]:
    """A new store with room for five labels a set."""
    opened = SqliteLabelStore(tmp_path / "new" / "labels.sqlite3", max_labels=5)
    yield opened
    opened.close()


def _labels(*names: str) -> list[Label]:
    return [make_label(name) for name in names]


def test_a_set_survives_closing_the_file(tmp_path: Path) -> None:
    """Order, prompts and templates come back as they were."""
    path = tmp_path / "labels.sqlite3"
    first = SqliteLabelStore(path, 5)
    labels = [make_label("zebra"), make_label("ant", ["an ant", "{} close up"])]
    put, is_new = first.put("animals", labels, ("a {}.",), ANY)
    first.close()
    second = SqliteLabelStore(path, 5)
    found = second.get("animals")
    second.close()
    assert is_new
    assert found == put
    assert found.labels == tuple(labels)
    assert found.templates == ("a {}.",)


def test_replacing_keeps_the_birthday_and_changes_the_etag(store: SqliteLabelStore) -> None:
    """The etag is a hash of the content: the same content has the same one again."""
    one, _ = store.put("s", _labels("a"), None, ANY)
    two, is_new = store.put("s", _labels("b"), None, ANY)
    three, _ = store.put("s", _labels("a"), None, ANY)
    assert not is_new
    assert one.created == two.created
    assert one.etag != two.etag
    assert one.etag == three.etag


def test_labels_are_added_and_removed(store: SqliteLabelStore) -> None:
    """Added at the end; removed whatever case the client writes."""
    store.put("s", _labels("a", "b"), None, ANY)
    store.add("s", _labels("c"), ANY)
    left = store.remove("s", "A", ANY)
    assert [label.name for label in left.labels] == ["b", "c"]
    with pytest.raises(UnknownLabelError, match="has no label 'a'"):
        store.remove("s", "a", ANY)


def test_a_refused_change_changes_nothing(store: SqliteLabelStore) -> None:
    """Duplicates and overfull sets leave the stored set as it was."""
    before, _ = store.put("s", _labels("a", "b", "c"), None, ANY)
    with pytest.raises(DuplicateLabelsError):
        store.add("s", _labels("d", "D"), ANY)
    with pytest.raises(TooManyLabelsError):
        store.add("s", _labels("d", "e", "f"), ANY)
    assert store.get("s") == before


def test_preconditions(store: SqliteLabelStore) -> None:
    """A writer that read an older state is told so."""
    one, _ = store.put("s", _labels("a"), None, Precondition(absent=True))
    with pytest.raises(PreconditionFailedError, match="exists already"):
        store.put("s", _labels("b"), None, Precondition(absent=True))
    store.add("s", _labels("b"), Precondition(etags=(one.etag,)))
    for change in (
        lambda stale: store.put("s", _labels("x"), None, stale),
        lambda stale: store.add("s", _labels("x"), stale),
        lambda stale: store.remove("s", "a", stale),
        lambda stale: store.delete("s", stale),
    ):
        with pytest.raises(PreconditionFailedError, match="has changed since you read it"):
            change(Precondition(etags=(one.etag,)))
    with pytest.raises(PreconditionFailedError):
        store.put("new", _labels("x"), None, Precondition(etags=("*",)))
    store.delete("s", Precondition(etags=("*",)))


def test_unknown_sets(store: SqliteLabelStore) -> None:
    """Every method that needs a set says how to make one."""
    for use in (
        lambda: store.get("s"),
        lambda: store.add("s", _labels("a"), ANY),
        lambda: store.remove("s", "a", ANY),
        lambda: store.delete("s", ANY),
    ):
        with pytest.raises(UnknownLabelSetError, match="PUT /v1/label-sets/s"):
            use()


def test_deleting_takes_the_labels_along(store: SqliteLabelStore) -> None:
    """A set of the same name later starts empty-handed."""
    store.put("s", _labels("a", "b"), None, ANY)
    store.delete("s", ANY)
    again, _ = store.put("s", _labels("c"), None, ANY)
    assert [label.name for label in again.labels] == ["c"]


def test_pages_in_order_of_name(store: SqliteLabelStore) -> None:
    """Each page starts behind the last name of the one before."""
    for name in ("b", "a", "d", "c"):
        store.put(name, _labels(name), None, ANY)
    assert [one.name for one in store.page("", 3)] == ["a", "b", "c"]
    assert [(one.name, one.n_labels) for one in store.page("c", 3)] == [("d", 1)]


def test_concurrent_writers_lose_nothing(tmp_path: Path) -> None:
    """Twenty threads each add one label; all twenty are there."""
    store = SqliteLabelStore(tmp_path / "labels.sqlite3", 100)
    store.put("s", _labels("start"), None, ANY)
    with ThreadPoolExecutor(20) as threads:
        list(threads.map(lambda i: store.add("s", _labels(f"label {i}"), ANY), range(20)))
    names = {label.name for label in store.get("s").labels}
    store.close()
    assert names == {"start", *(f"label {i}" for i in range(20))}


def test_an_unusable_place_is_refused(tmp_path: Path) -> None:
    """A file where the directory should be; the message says what to check."""
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreUnavailableError, match="exists and is writable"):
        SqliteLabelStore(tmp_path / "file" / "labels.sqlite3", 5)


def test_a_damaged_file_is_an_unavailable_store(tmp_path: Path) -> None:
    """SQLite's own errors come out as one kind."""
    (tmp_path / "labels.sqlite3").write_bytes(b"this is not a database, " * 100)
    with pytest.raises(StoreUnavailableError):
        SqliteLabelStore(tmp_path / "labels.sqlite3", 5)


def test_a_file_of_the_first_version_gets_owners(tmp_path: Path) -> None:
    """Its sets are nobody's, and keep their content; a second opening changes nothing."""
    path = tmp_path / "labels.sqlite3"
    with closing(sqlite3.connect(path)) as old:
        old.executescript(FIRST_VERSION)
    for _ in range(2):
        opened = SqliteLabelStore(path, 5)
        assert [label.name for label in opened.get("old").labels] == ["ant"]
        opened.close()
    opened = SqliteLabelStore(path, 5)
    opened.put("old", _labels("a", "b"), None, ANY, Owner("k"))
    with pytest.raises(QuotaExceededError):
        opened.put("new", _labels("c"), None, ANY, Owner("k", max_label_sets=1))
    opened.close()


def test_a_file_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    """An older service would not keep what the newer one knows."""
    path = tmp_path / "labels.sqlite3"
    SqliteLabelStore(path, 5).close()
    with closing(sqlite3.connect(path)) as newer:
        newer.execute("PRAGMA user_version = 99")
    with pytest.raises(StoreUnavailableError, match="newer version"):
        SqliteLabelStore(path, 5)


def test_quotas_hold_for_what_an_owner_owns(store: SqliteLabelStore) -> None:
    """Numbers are told; a replaced set counts once; deleting makes room."""
    owner = Owner("k", max_label_sets=2, max_labels=5)
    store.put("nobodys", _labels("a", "b", "c", "d", "e"), None, ANY)
    store.put("one", _labels("a", "b", "c"), None, ANY, owner)
    store.put("two", _labels("a"), None, ANY, owner)
    store.put("one", _labels("x", "y", "z"), None, ANY, owner)
    store.add("two", _labels("b"), ANY, owner)
    with pytest.raises(QuotaExceededError, match="may own 2 label sets, and owns 2 others"):
        store.put("three", [], None, ANY, owner)
    with pytest.raises(QuotaExceededError, match="5 labels in all its sets; 3 in others and 3 here"):
        store.add("two", _labels("c"), ANY, owner)
    assert len(store.get("two").labels) == 2
    store.delete("one", ANY)
    store.put("three", _labels("a", "b", "c"), None, ANY, owner)


def test_whoever_adds_to_a_set_pays_for_all_of_it(store: SqliteLabelStore) -> None:
    """Else a quota could be passed with sets that others made; taking labels out changes no owner."""
    small, other = Owner("small", max_labels=3), Owner("other", max_labels=5)
    store.put("shared", _labels("a", "b", "c"), None, ANY, other)
    with pytest.raises(QuotaExceededError):
        store.add("shared", _labels("d"), ANY, small)
    store.remove("shared", "a", ANY)
    with pytest.raises(QuotaExceededError):
        store.put("more", _labels("a", "b", "c", "d"), None, ANY, other)
    store.add("shared", _labels("d"), ANY, small)
    store.put("more", _labels("a", "b", "c", "d"), None, ANY, other)


def test_quotas_hold_under_concurrent_writes(tmp_path: Path) -> None:
    """From several threads and two processes' worth of stores; exactly as many succeed as may."""
    owner = Owner("k", max_label_sets=7)
    stores = [SqliteLabelStore(tmp_path / "labels.sqlite3", 5) for _ in range(2)]

    def put(i: int) -> bool:
        try:
            stores[i % 2].put(f"s{i}", _labels("a"), None, ANY, owner)
        except QuotaExceededError:
            return False
        return True

    with ThreadPoolExecutor(8) as threads:
        n_stored = sum(threads.map(put, range(40)))
    assert n_stored == len(stores[0].page("", 100)) == 7
    for one in stores:
        one.close()
