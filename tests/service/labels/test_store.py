"""What every store of label sets does: durable, whole, and safe from several threads."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.errors import (
    DuplicateLabelsError,
    PreconditionFailedError,
    QuotaExceededError,
    TooManyLabelsError,
    UnknownLabelError,
    UnknownLabelSetError,
)
from service.labels.label import Label, label_key, make_label
from service.labels.sqlite import SqliteLabelStore
from service.labels.store import Content, Edit, LabelStore, Owner, Precondition
from tests.service.labels.conftest import OpenStore

ANY = Precondition()


def _labels(*names: str) -> tuple[Label, ...]:
    return tuple(make_label(name) for name in names)


def _of(*names: str) -> Content:
    return Content(_labels(*names))


def _names(store: LabelStore, name: str = "s") -> list[str]:
    return [label.name for label in store.get(name).labels]


def test_a_set_survives_a_restart(open_store: OpenStore) -> None:
    """Order, prompts, templates and guarantee come back as they were."""
    labels = (make_label("zebra"), make_label("ant", ["an ant", "{} close up"]))
    first = open_store()
    put, is_new = first.put("animals", Content(labels, ("a {}.",), 0.9), ANY)
    first.close()
    found = open_store().get("animals")
    assert is_new
    assert (found.labels, found.templates, found.guarantee) == (labels, ("a {}.",), 0.9)
    assert (found.name, found.n_labels, found.etag) == (put.name, put.n_labels, put.etag)
    assert (found.created, found.updated) == (put.created, put.updated)


def test_replacing_keeps_the_birthday_and_changes_the_etag(store: LabelStore) -> None:
    """The etag is a hash of the content: the same content has the same one again."""
    one, _ = store.put("s", _of("a"), ANY)
    two, is_new = store.put("s", _of("b"), ANY)
    three, _ = store.put("s", _of("a"), ANY)
    assert not is_new
    assert one.created == two.created
    assert one.etag != two.etag
    assert one.etag == three.etag


def test_every_part_of_the_content_is_in_the_etag(store: LabelStore) -> None:
    """Names, their order, prompts, templates, guarantee."""
    contents = [
        _of("a", "b"),
        _of("b", "a"),
        Content((make_label("a", ["b"]),)),
        Content(_labels("a", "b"), ("{}",)),
        Content(_labels("a", "b"), None, 0.9),
        Content(_labels("a", "b"), None, 0.8),
        Content((), ("a",)),
        _of("a"),
    ]
    assert len({store.put("s", one, ANY)[0].etag for one in contents}) == len(contents)


def test_the_same_content_put_again_was_not_updated(store: LabelStore) -> None:
    """Nor is it new; another guarantee is a change."""
    before, _ = store.put("s", _of("a"), ANY)
    again, is_new = store.put("s", _of("a"), ANY)
    assert (again, is_new) == (before, False)
    after, _ = store.put("s", Content(_labels("a"), guarantee=0.9), ANY)
    assert after.updated > before.updated
    assert store.get("s").guarantee == 0.9


def test_labels_are_added_and_removed(store: LabelStore) -> None:
    """Added at the end; removed whatever case the client writes."""
    store.put("s", _of("a", "b"), ANY)
    assert store.add("s", _labels("c"), ANY).n_labels == 3
    assert store.remove("s", "A", ANY).n_labels == 2
    assert _names(store) == ["b", "c"]
    with pytest.raises(UnknownLabelError, match="has no label 'a'"):
        store.remove("s", "a", ANY)


def test_what_is_behind_all_others_was_added_last(store: LabelStore) -> None:
    """Also after the last one and one in the middle were taken out."""
    store.put("s", _of("a", "b", "c"), ANY)
    store.remove("s", "c", ANY)
    store.remove("s", "a", ANY)
    store.add("s", _labels("d", "c"), ANY)
    store.add("s", _labels("a"), ANY)
    assert _names(store) == ["b", "d", "c", "a"]


def test_an_edit_that_changes_nothing_leaves_all_as_it_was(store: LabelStore) -> None:
    """A request that is repeated after a lost answer; the stored spelling stays."""
    store.put("s", Content((make_label("a", ["{}"]), make_label("b"))), ANY)
    before = store.get("s")
    for same in (_labels("A", "b"), (make_label("a", ["{}"]),), ()):
        after = store.add("s", same, ANY)
        assert (after.etag, after.updated, after.n_labels) == (before.etag, before.updated, 2)
    assert store.get("s") == before


def test_prompts_that_are_added_replace_those_of_the_label(store: LabelStore) -> None:
    """The label stays where it is, as it is spelt; a plain name leaves its prompts."""
    before, _ = store.put("s", Content((make_label("a", ["old {}"]), make_label("b"))), ANY)
    after = store.add("s", [make_label("A", ["new"]), make_label("c")], ANY)
    assert after.etag != before.etag
    assert store.get("s").labels == (Label("a", ("new",)), Label("b"), Label("c"))
    assert store.add("s", _labels("a"), ANY) == after


def test_the_same_edits_of_equal_sets_lead_to_equal_etags(store: LabelStore) -> None:
    """However they are spelt, and whatever else they name that is there already."""
    for name in ("one", "two"):
        store.put(name, _of("a", "b"), ANY)
    one = [store.add("one", _labels("c"), ANY), store.remove("one", "a", ANY)]
    two = [store.add("two", _labels("B", "c", "A"), ANY), store.remove("two", "A", ANY)]
    assert [edit.etag for edit in one] == [edit.etag for edit in two]


names = st.sampled_from(["a", "A", "b", "c", "d", "e"])
added = st.tuples(names, st.sampled_from([(), ("x",), ("{} y",)]))
edits = st.one_of(
    st.tuples(st.just("add"), st.lists(added, max_size=3, unique_by=lambda one: label_key(one[0]))),
    st.tuples(st.just("remove"), names),
    st.tuples(st.just("put"), st.lists(added, max_size=3, unique_by=lambda one: label_key(one[0]))),
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(edits, min_size=1, max_size=12))
def test_edits_do_what_they_do_to_a_list(open_store: OpenStore, done: list[tuple[str, Any]]) -> None:
    """Whoever has read the set before and whoever reads it now find the same; no etag has two contents."""
    store, expected = open_store(), list[Label]()
    contents = {store.put("s", Content(()), ANY)[0].etag: store.get("s").labels}
    for action, given_ in done:
        before = store.get("s").etag
        etag = before
        if action == "remove":
            left = [label for label in expected if label_key(label.name) != label_key(given_)]
            if len(left) < len(expected):
                etag = store.remove("s", given_, ANY).etag
            expected = left
        else:
            labels = [Label(name, prompts) for name, prompts in given_]
            expected = labels if action == "put" else _merged(expected, labels)
            edit = (
                store.put("s", Content(tuple(labels)), ANY)[0]
                if action == "put"
                else store.add("s", labels, ANY)
            )
            etag = edit.etag
        found = store.get("s")
        assert found.labels == tuple(expected)
        assert found.n_labels == len(expected)
        assert found.etag == etag
        assert contents.setdefault(etag, found.labels) == found.labels
    assert open_store().get("s") == store.get("s")


def _merged(stored: list[Label], more: list[Label]) -> list[Label]:
    """What adding means."""
    merged = {label_key(label.name): label for label in stored}
    for label in more:
        known = merged.setdefault(label_key(label.name), label)
        if label.prompts:
            merged[label_key(label.name)] = Label(known.name, label.prompts)
    return list(merged.values())


def test_the_etag_of_an_edit_is_that_of_no_content() -> None:
    """Edits of different sets and different edits of one differ too."""
    one, two = make_label("a"), make_label("a", ["b"])
    befores = [Content(()).etag, Content((one,)).etag]
    changes = [Edit(added=(one,)), Edit(added=(two,)), Edit(prompted=(two,)), Edit(removed=("a",))]
    chained = {change.etag(before) for change in changes for before in befores}
    contents = {Content(labels).etag for labels in ((), (one,), (two,))}
    assert len(chained | contents) == len(changes) * len(befores) + 3


def test_a_set_is_read_once_however_it_is_edited(open_store: OpenStore) -> None:
    """What an edit does not concern are the same values; another process notices."""
    store, other = open_store(), open_store()
    store.put("s", _of("a", "b"), ANY)
    assert store.get("s") is store.get("s")
    kept = store.get("s").labels[1]
    store.add("s", [make_label("c"), make_label("a", ["x"])], ANY)
    store.remove("s", "c", ANY)
    assert store.get("s").labels == (Label("a", ("x",)), Label("b"))
    assert store.get("s").labels[1] is kept
    other.add("s", _labels("d"), ANY)
    assert _names(store) == ["a", "b", "d"]
    other.delete("s", ANY)
    other.put("s", _of("e"), ANY)
    assert _names(store) == ["e"]


def test_a_refused_change_changes_nothing(store: LabelStore) -> None:
    """Duplicates and overfull sets leave the stored set as it was."""
    store.put("s", _of("a", "b", "c"), ANY)
    before = store.get("s")
    with pytest.raises(DuplicateLabelsError):
        store.add("s", _labels("d", "D"), ANY)
    with pytest.raises(TooManyLabelsError, match="6 labels were given; at most 5"):
        store.add("s", [make_label("a", ["new"]), *_labels("d", "e", "f")], ANY)
    with pytest.raises(TooManyLabelsError):
        store.put("s", _of("a", "b", "c", "d", "e", "f"), ANY)
    assert store.get("s") == before
    store.add("s", _labels("a", "b", "c", "d", "e"), ANY)


def test_preconditions(store: LabelStore) -> None:
    """A writer that read an older state is told so."""
    one, _ = store.put("s", _of("a"), Precondition(absent=True))
    with pytest.raises(PreconditionFailedError, match="exists already"):
        store.put("s", _of("b"), Precondition(absent=True))
    store.add("s", _labels("b"), Precondition(etags=(one.etag,)))
    stale = Precondition(etags=(one.etag,))
    changes: list[Callable[[], object]] = [
        lambda: store.put("s", _of("x"), stale),
        lambda: store.add("s", _labels("x"), stale),
        lambda: store.remove("s", "a", stale),
        lambda: store.delete("s", stale),
    ]
    for change in changes:
        with pytest.raises(PreconditionFailedError, match="has changed since you read it"):
            change()
    with pytest.raises(PreconditionFailedError):
        store.put("new", _of("x"), Precondition(etags=("*",)))
    store.delete("s", Precondition(etags=("*",)))


def test_unknown_sets(store: LabelStore) -> None:
    """Every method that needs a set says how to make one."""
    uses: list[Callable[[], object]] = [
        lambda: store.get("s"),
        lambda: store.add("s", _labels("a"), ANY),
        lambda: store.remove("s", "a", ANY),
        lambda: store.delete("s", ANY),
    ]
    for use in uses:
        with pytest.raises(UnknownLabelSetError, match="PUT /v1/label-sets/s"):
            use()


def test_deleting_takes_the_labels_along(store: LabelStore) -> None:
    """A set of the same name later starts empty-handed."""
    store.put("s", _of("a", "b"), ANY)
    store.delete("s", ANY)
    store.put("s", _of("c"), ANY)
    assert _names(store) == ["c"]


def test_pages_in_order_of_name(store: LabelStore) -> None:
    """Each page starts behind the last name of the one before, and has all but the labels."""
    for name in ("b", "a", "c"):
        store.put(name, _of(name), ANY)
    put, _ = store.put("d", Content(_labels("d", "e"), ("a {}",), 0.5), ANY)
    assert [one.name for one in store.page("", 3)] == ["a", "b", "c"]
    assert store.page("c", 3) == [put]
    added = store.add("d", _labels("f"), ANY)
    assert store.page("c", 3) == [added]
    assert added.n_labels == 3


def test_names_are_in_the_order_of_code_points(store: LabelStore) -> None:
    """Whatever the language of a server is, and pages begin behind a name in the same order."""
    for name in ("b", "B", "a.c", "a_b", "aB", "10", "9"):
        store.put(name, _of(), ANY)
    assert [one.name for one in store.page("", 9)] == ["10", "9", "B", "a.c", "aB", "a_b", "b"]
    assert [one.name for one in store.page("B", 2)] == ["a.c", "aB"]


def test_concurrent_writers_lose_nothing(open_store: OpenStore) -> None:
    """Twenty threads each add one label, through two stores; all are there, in the order of their etags."""
    stores = [open_store(100) for _ in range(2)]
    stores[0].put("s", _of("start"), ANY)
    with ThreadPoolExecutor(20) as threads:
        added = list(threads.map(lambda i: stores[i % 2].add("s", _labels(f"label {i}"), ANY), range(20)))
    found = [one.get("s") for one in stores]
    assert found[0] == found[1]
    assert {label.name for label in found[0].labels} == {"start", *(f"label {i}" for i in range(20))}
    etag = Content(_labels("start")).etag
    for label in found[0].labels[1:]:
        etag = Edit(added=(label,)).etag(etag)
        assert etag in {one.etag for one in added}
    assert found[0].etag == etag


def test_quotas_hold_for_what_an_owner_owns(store: LabelStore) -> None:
    """Numbers are told; a replaced set counts once; deleting makes room."""
    owner = Owner("k", max_label_sets=2, max_labels=5)
    store.put("nobodys", _of("a", "b", "c", "d", "e"), ANY)
    store.put("one", _of("a", "b", "c"), ANY, owner)
    store.put("two", _of("a"), ANY, owner)
    store.put("one", _of("x", "y", "z"), ANY, owner)
    store.add("two", _labels("b"), ANY, owner)
    with pytest.raises(QuotaExceededError, match="may own 2 label sets, and owns 2 others"):
        store.put("three", _of(), ANY, owner)
    with pytest.raises(QuotaExceededError, match="5 labels in all its sets; 3 in others and 3 here"):
        store.add("two", _labels("c"), ANY, owner)
    assert len(store.get("two").labels) == 2
    store.delete("one", ANY)
    store.put("three", _of("a", "b", "c"), ANY, owner)


def test_whoever_adds_to_a_set_pays_for_all_of_it(store: LabelStore) -> None:
    """Else a quota could be passed with sets that others made; taking labels out changes no owner."""
    small, other = Owner("small", max_labels=3), Owner("other", max_labels=5)
    store.put("shared", _of("a", "b", "c"), ANY, other)
    with pytest.raises(QuotaExceededError):
        store.add("shared", _labels("d"), ANY, small)
    store.remove("shared", "a", ANY)
    with pytest.raises(QuotaExceededError):
        store.put("more", _of("a", "b", "c", "d"), ANY, other)
    store.add("shared", _labels("d"), ANY, small)
    store.put("more", _of("a", "b", "c", "d"), ANY, other)


def test_who_adds_what_is_there_owns_the_set_too(store: LabelStore) -> None:
    """The content stays as it is, and the set counts for the new owner."""
    store.put("s", _of("a", "b"), ANY, Owner("first"))
    second = Owner("second", max_labels=3)
    store.add("s", _labels("a"), ANY, second)
    with pytest.raises(QuotaExceededError, match="2 in others and 2 here"):
        store.put("more", _of("c", "d"), ANY, second)


def test_quotas_hold_under_concurrent_writes(open_store: OpenStore) -> None:
    """From several threads and two processes' worth of stores; exactly as many succeed as may."""
    owner = Owner("k", max_label_sets=7)
    stores = [open_store() for _ in range(2)]

    def put(i: int) -> bool:
        try:
            stores[i % 2].put(f"s{i}", _of("a"), ANY, owner)
        except QuotaExceededError:
            return False
        return True

    with ThreadPoolExecutor(8) as threads:
        n_stored = sum(threads.map(put, range(40)))
    assert n_stored == len(stores[0].page("", 100)) == 7


def test_a_change_that_comes_again_is_answered_as_before(open_store: OpenStore) -> None:
    """By the id of its request, in any process, whatever others have made of the set since."""
    store, other = open_store(), open_store()
    made = Precondition(absent=True, request_id="1")
    first = store.put("s", _of("a", "b"), made)
    adding = Precondition(etags=(first[0].etag,), request_id="2")
    added = store.add("s", _labels("c"), adding)
    removing = Precondition(request_id="3")
    removed = store.remove("s", "a", removing)
    other.add("s", _labels("a"), ANY)
    assert other.put("s", _of("a", "b"), made) == first
    assert other.add("s", _labels("c"), adding) == added
    assert other.remove("s", "a", removing) == removed
    assert _names(store) == ["b", "c", "a"]
    deleting = Precondition(request_id="4")
    store.delete("s", deleting)
    other.delete("s", deleting)
    store.put("s", _of("d"), ANY)
    other.delete("s", deleting)
    assert _names(other) == ["d"]


def test_another_change_under_the_same_id_is_made(store: LabelStore) -> None:
    """Other content, another owner, another condition, another set."""
    made = Precondition(absent=True, request_id="1")
    store.put("s", _of("a", "b"), made, Owner("k"))
    for content, owner in ((_of("a"), Owner("k")), (_of("a", "b"), Owner("x"))):
        with pytest.raises(PreconditionFailedError):
            store.put("s", content, made, owner)
    assert store.put("t", _of("a", "b"), made, Owner("k"))[1]
    with pytest.raises(PreconditionFailedError):
        store.remove("s", "a", Precondition(etags=("other",), request_id="1"))


def test_a_client_with_one_id_for_all_its_changes_loses_none(store: LabelStore) -> None:
    """Only the last change under an id is recognised: one that was undone is made again."""
    same = Precondition(request_id="always the same")
    store.put("s", _of("a"), same)
    for _ in range(2):
        store.add("s", _labels("b"), same)
        assert _names(store) == ["a", "b"]
        store.remove("s", "b", same)
        assert _names(store) == ["a"]
        store.delete("s", same)
        store.put("s", _of("a"), same)


def test_a_change_is_forgotten_after_a_while(store: LabelStore) -> None:
    """By the clock of the store; then it is made again, and what is kept does not grow."""
    store.put("s", _of("a", "b"), ANY)
    adding = Precondition(request_id="1")
    store.add("s", _labels("c"), adding)
    store.remove("s", "c", ANY)
    _run(store, "UPDATE label_set_changes SET made = made - {hour}")
    store.add("s", _labels("c"), adding)
    assert _names(store) == ["a", "b", "c"]
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
