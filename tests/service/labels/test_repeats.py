"""Changes of label sets that come again, and what is kept to recognise them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from service.errors import PreconditionFailedError
from service.labels.sqlite.store import SqliteLabelStore
from service.labels.store import Content, LabelStore, Owner, Precondition
from tests.service.labels.conftest import (
    ANY,
    LONGEST_TEMPLATES,
    OpenStore,
    content_of,
    labels_of,
    names_in,
)


def test_a_change_that_comes_again_is_answered_as_before(open_store: OpenStore) -> None:
    """By the id of its request, in any process, whatever others have made of the set since."""
    store, other = open_store(), open_store()
    made = Precondition(absent=True, request_id="1")
    first = store.put("s", content_of("a", "b"), made)
    adding = Precondition(etags=(first[0].etag,), request_id="2")
    added = store.add("s", labels_of("c"), adding)
    removing = Precondition(request_id="3")
    removed = store.remove("s", "a", removing)
    other.add("s", labels_of("a"), ANY)
    assert other.put("s", content_of("a", "b"), made) == first
    assert other.add("s", labels_of("c"), adding) == added
    assert other.remove("s", "a", removing) == removed
    assert names_in(store) == ["b", "c", "a"]
    deleting = Precondition(request_id="4")
    store.delete("s", deleting)
    other.delete("s", deleting)
    store.put("s", content_of("d"), ANY)
    other.delete("s", deleting)
    assert names_in(other) == ["d"]


def test_an_answer_is_kept_without_the_templates_of_its_set(store: LabelStore) -> None:
    """Edits of a few bytes would store 380 KB each, and fill the disk at any rate."""
    store.put("s", Content(labels_of("a"), LONGEST_TEMPLATES), ANY)
    store.add("s", (), ANY)
    store.add("s", labels_of("b"), ANY)
    store.remove("s", "b", ANY)
    assert _run(store, "SELECT count(*), max(length(answer)) < 400 FROM label_set_changes") == [(4, True)]


def test_an_edit_does_not_write_the_templates_of_its_set(store: LabelStore) -> None:
    """A database keeps what was there before each change for a while: it would grow just so."""
    store.put("s", Content(labels_of("a"), LONGEST_TEMPLATES), ANY)
    with _statements(store) as sent:
        store.add("s", labels_of("b"), ANY)
        store.remove("s", "b", ANY)
    assert 0 < sum(map(len, sent)) < 20_000


@contextmanager
def _statements(store: Any) -> Iterator[list[str]]:
    """The statements that are sent inside the block, with their values."""
    sent = list[str]()
    if isinstance(store, SqliteLabelStore):
        with store._database.reading() as connection:
            connection.set_trace_callback(sent.append)
        yield sent
        connection.set_trace_callback(None)
        return
    from sqlalchemy import event

    def note(*told: Any) -> None:
        sent.append(f"{told[2]} {told[3]}")

    event.listen(store._database._engine, "before_cursor_execute", note)
    yield sent


def test_an_answer_that_comes_again_has_the_templates_that_there_are(open_store: OpenStore) -> None:
    """Those that were put; with added labels those that the set has by then."""
    store, other = open_store(), open_store()
    putting, adding = Precondition(request_id="1"), Precondition(request_id="2")
    content = Content(labels_of("a"), ("a {}",), 0.9)
    put = store.put("s", content, putting)
    added = store.add("s", labels_of("b"), adding)
    assert other.add("s", labels_of("b"), adding) == added
    other.put("s", Content(labels_of("c"), ("{} {}",)), ANY)
    assert store.put("s", content, putting) == put
    assert store.add("s", labels_of("b"), adding) == replace(added, templates=("{} {}",))
    other.delete("s", ANY)
    assert store.put("s", content, putting) == put
    assert store.add("s", labels_of("b"), adding) == replace(added, templates=None)


def test_another_change_under_the_same_id_is_made(store: LabelStore) -> None:
    """Other content, another owner, another condition, another set."""
    made = Precondition(absent=True, request_id="1")
    store.put("s", content_of("a", "b"), made, Owner("k"))
    for content, owner in ((content_of("a"), Owner("k")), (content_of("a", "b"), Owner("x"))):
        with pytest.raises(PreconditionFailedError):
            store.put("s", content, made, owner)
    assert store.put("t", content_of("a", "b"), made, Owner("k"))[1]
    with pytest.raises(PreconditionFailedError):
        store.remove("s", "a", Precondition(etags=("other",), request_id="1"))


def test_a_client_with_one_id_for_all_its_changes_loses_none(store: LabelStore) -> None:
    """Only the last change under an id is recognised: one that was undone is made again."""
    same = Precondition(request_id="always the same")
    store.put("s", content_of("a"), same)
    for _ in range(2):
        store.add("s", labels_of("b"), same)
        assert names_in(store) == ["a", "b"]
        store.remove("s", "b", same)
        assert names_in(store) == ["a"]
        store.delete("s", same)
        store.put("s", content_of("a"), same)


def test_a_change_is_forgotten_after_a_while(store: LabelStore) -> None:
    """By the clock of the store; then it is made again, and what is kept does not grow."""
    store.put("s", content_of("a", "b"), ANY)
    adding = Precondition(request_id="1")
    store.add("s", labels_of("c"), adding)
    store.remove("s", "c", ANY)
    _run(store, "UPDATE label_set_changes SET made = made - {hour}")
    store.add("s", labels_of("c"), adding)
    assert names_in(store) == ["a", "b", "c"]
    assert _run(store, "SELECT count(*) FROM label_set_changes") == [(1,)]


def _run(store: Any, statement: str) -> list[Any]:
    if isinstance(store, SqliteLabelStore):
        with store._database.writing() as connection:
            return connection.execute(statement.format(hour="3600")).fetchall()
    from sqlalchemy import text

    def work(connection: Any) -> list[Any]:
        found = connection.execute(text(statement.format(hour="interval '1 hour'")))
        return [tuple(row) for row in found] if found.returns_rows else []

    done: list[Any] = store._database.write(work)
    return done
