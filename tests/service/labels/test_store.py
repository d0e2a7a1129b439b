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
from service.labels.label import Label, count_characters, label_key, make_label
from service.labels.store import Content, Edit, LabelStore, Owner, Precondition
from tests.service.labels.conftest import ANY, OpenStore, content_of, labels_of, names_in


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
    one, _ = store.put("s", content_of("a"), ANY)
    two, is_new = store.put("s", content_of("b"), ANY)
    three, _ = store.put("s", content_of("a"), ANY)
    assert not is_new
    assert one.created == two.created
    assert one.etag != two.etag
    assert one.etag == three.etag


def test_every_part_of_the_content_is_in_the_etag(store: LabelStore) -> None:
    """Names, their order, prompts, templates, guarantee."""
    contents = [
        content_of("a", "b"),
        content_of("b", "a"),
        Content((make_label("a", ["b"]),)),
        Content(labels_of("a", "b"), ("{}",)),
        Content(labels_of("a", "b"), None, 0.9),
        Content(labels_of("a", "b"), None, 0.8),
        Content((), ("a",)),
        content_of("a"),
    ]
    assert len({store.put("s", one, ANY)[0].etag for one in contents}) == len(contents)


def test_the_same_content_put_again_was_not_updated(store: LabelStore) -> None:
    """Nor is it new; another guarantee is a change."""
    before, _ = store.put("s", content_of("a"), ANY)
    again, is_new = store.put("s", content_of("a"), ANY)
    assert (again, is_new) == (before, False)
    after, _ = store.put("s", Content(labels_of("a"), guarantee=0.9), ANY)
    assert after.updated > before.updated
    assert store.get("s").guarantee == 0.9


def test_labels_are_added_and_removed(store: LabelStore) -> None:
    """Added at the end; removed whatever case the client writes."""
    store.put("s", content_of("a", "b"), ANY)
    assert store.add("s", labels_of("c"), ANY).n_labels == 3
    assert store.remove("s", "A", ANY).n_labels == 2
    assert names_in(store) == ["b", "c"]
    with pytest.raises(UnknownLabelError, match="has no label 'a'"):
        store.remove("s", "a", ANY)


def test_what_is_behind_all_others_was_added_last(store: LabelStore) -> None:
    """Also after the last one and one in the middle were taken out."""
    store.put("s", content_of("a", "b", "c"), ANY)
    store.remove("s", "c", ANY)
    store.remove("s", "a", ANY)
    store.add("s", labels_of("d", "c"), ANY)
    store.add("s", labels_of("a"), ANY)
    assert names_in(store) == ["b", "d", "c", "a"]


def test_an_edit_that_changes_nothing_leaves_all_as_it_was(store: LabelStore) -> None:
    """A request that is repeated after a lost answer; the stored spelling stays."""
    store.put("s", Content((make_label("a", ["{}"]), make_label("b"))), ANY)
    before = store.get("s")
    for same in (labels_of("A", "b"), (make_label("a", ["{}"]),), ()):
        after = store.add("s", same, ANY)
        assert (after.etag, after.updated, after.n_labels) == (before.etag, before.updated, 2)
    assert store.get("s") == before


def test_prompts_that_are_added_replace_those_of_the_label(store: LabelStore) -> None:
    """The label stays where it is, as it is spelt; a plain name leaves its prompts."""
    before, _ = store.put("s", Content((make_label("a", ["old {}"]), make_label("b"))), ANY)
    after = store.add("s", [make_label("A", ["new"]), make_label("c")], ANY)
    assert after.etag != before.etag
    assert store.get("s").labels == (Label("a", ("new",)), Label("b"), Label("c"))
    assert store.add("s", labels_of("a"), ANY) == after


def test_the_same_edits_of_equal_sets_lead_to_equal_etags(store: LabelStore) -> None:
    """However they are spelt, and whatever else they name that is there already."""
    for name in ("one", "two"):
        store.put(name, content_of("a", "b"), ANY)
    one = [store.add("one", labels_of("c"), ANY), store.remove("one", "a", ANY)]
    two = [store.add("two", labels_of("B", "c", "A"), ANY), store.remove("two", "A", ANY)]
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
        assert found.n_characters == count_characters(expected, None)
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
    changes = [Edit(added=(one,)), Edit(added=(two,)), Edit(prompted=(two,)), Edit(removed=(one,))]
    chained = {change.etag(before) for change in changes for before in befores}
    contents = {Content(labels).etag for labels in ((), (one,), (two,))}
    assert len(chained | contents) == len(changes) * len(befores) + 3


def test_a_set_is_read_once_however_it_is_edited(open_store: OpenStore) -> None:
    """What an edit does not concern are the same values; another process notices."""
    store, other = open_store(), open_store()
    store.put("s", content_of("a", "b"), ANY)
    assert store.get("s") is store.get("s")
    kept = store.get("s").labels[1]
    store.add("s", [make_label("c"), make_label("a", ["x"])], ANY)
    store.remove("s", "c", ANY)
    assert store.get("s").labels == (Label("a", ("x",)), Label("b"))
    assert store.get("s").labels[1] is kept
    other.add("s", labels_of("d"), ANY)
    assert names_in(store) == ["a", "b", "d"]
    other.delete("s", ANY)
    other.put("s", content_of("e"), ANY)
    assert names_in(store) == ["e"]


def test_a_refused_change_changes_nothing(store: LabelStore) -> None:
    """Duplicates and overfull sets leave the stored set as it was."""
    store.put("s", content_of("a", "b", "c"), ANY)
    before = store.get("s")
    with pytest.raises(DuplicateLabelsError):
        store.add("s", labels_of("d", "D"), ANY)
    with pytest.raises(TooManyLabelsError, match="6 labels were given; at most 5"):
        store.add("s", [make_label("a", ["new"]), *labels_of("d", "e", "f")], ANY)
    with pytest.raises(TooManyLabelsError):
        store.put("s", content_of("a", "b", "c", "d", "e", "f"), ANY)
    assert store.get("s") == before
    store.add("s", labels_of("a", "b", "c", "d", "e"), ANY)


def test_preconditions(store: LabelStore) -> None:
    """A writer that read an older state is told so."""
    one, _ = store.put("s", content_of("a"), Precondition(absent=True))
    with pytest.raises(PreconditionFailedError, match="exists already"):
        store.put("s", content_of("b"), Precondition(absent=True))
    store.add("s", labels_of("b"), Precondition(etags=(one.etag,)))
    stale = Precondition(etags=(one.etag,))
    changes: list[Callable[[], object]] = [
        lambda: store.put("s", content_of("x"), stale),
        lambda: store.add("s", labels_of("x"), stale),
        lambda: store.remove("s", "a", stale),
        lambda: store.delete("s", stale),
    ]
    for change in changes:
        with pytest.raises(PreconditionFailedError, match="has changed since you read it"):
            change()
    with pytest.raises(PreconditionFailedError):
        store.put("new", content_of("x"), Precondition(etags=("*",)))
    store.delete("s", Precondition(etags=("*",)))


def test_unknown_sets(store: LabelStore) -> None:
    """Every method that needs a set says how to make one."""
    uses: list[Callable[[], object]] = [
        lambda: store.get("s"),
        lambda: store.add("s", labels_of("a"), ANY),
        lambda: store.remove("s", "a", ANY),
        lambda: store.delete("s", ANY),
    ]
    for use in uses:
        with pytest.raises(UnknownLabelSetError, match="PUT /v1/label-sets/s"):
            use()


def test_deleting_takes_the_labels_along(store: LabelStore) -> None:
    """A set of the same name later starts empty-handed."""
    store.put("s", content_of("a", "b"), ANY)
    store.delete("s", ANY)
    store.put("s", content_of("c"), ANY)
    assert names_in(store) == ["c"]


def test_pages_in_order_of_name(store: LabelStore) -> None:
    """Each page starts behind the last name of the one before, and has all but the labels."""
    for name in ("b", "a", "c"):
        store.put(name, content_of(name), ANY)
    put, _ = store.put("d", Content(labels_of("d", "e"), ("a {}",), 0.5), ANY)
    assert [one.name for one in store.page("", 3)] == ["a", "b", "c"]
    assert store.page("c", 3) == [put]
    added = store.add("d", labels_of("f"), ANY)
    assert store.page("c", 3) == [added]
    assert added.n_labels == 3


def test_names_are_in_the_order_of_code_points(store: LabelStore) -> None:
    """Whatever the language of a server is, and pages begin behind a name in the same order."""
    for name in ("b", "B", "a.c", "a_b", "aB", "10", "9"):
        store.put(name, content_of(), ANY)
    assert [one.name for one in store.page("", 9)] == ["10", "9", "B", "a.c", "aB", "a_b", "b"]
    assert [one.name for one in store.page("B", 2)] == ["a.c", "aB"]


def test_concurrent_writers_lose_nothing(open_store: OpenStore) -> None:
    """Twenty threads each add one label, through two stores; all are there, in the order of their etags."""
    stores = [open_store(100) for _ in range(2)]
    stores[0].put("s", content_of("start"), ANY)
    with ThreadPoolExecutor(20) as threads:
        added = list(threads.map(lambda i: stores[i % 2].add("s", labels_of(f"label {i}"), ANY), range(20)))
    found = [one.get("s") for one in stores]
    assert found[0] == found[1]
    assert {label.name for label in found[0].labels} == {"start", *(f"label {i}" for i in range(20))}
    etag = Content(labels_of("start")).etag
    for label in found[0].labels[1:]:
        etag = Edit(added=(label,)).etag(etag)
        assert etag in {one.etag for one in added}
    assert found[0].etag == etag


def test_quotas_hold_for_what_an_owner_owns(store: LabelStore) -> None:
    """Numbers are told; a replaced set counts once; deleting makes room."""
    owner = Owner("k", max_label_sets=2, max_labels=5)
    store.put("nobodys", content_of("a", "b", "c", "d", "e"), ANY)
    store.put("one", content_of("a", "b", "c"), ANY, owner)
    store.put("two", content_of("a"), ANY, owner)
    store.put("one", content_of("x", "y", "z"), ANY, owner)
    store.add("two", labels_of("b"), ANY, owner)
    with pytest.raises(QuotaExceededError, match="may own 2 label sets, and owns 2 others"):
        store.put("three", content_of(), ANY, owner)
    with pytest.raises(QuotaExceededError, match="5 labels in all its sets; 3 in others and 3 here"):
        store.add("two", labels_of("c"), ANY, owner)
    assert len(store.get("two").labels) == 2
    store.delete("one", ANY)
    store.put("three", content_of("a", "b", "c"), ANY, owner)


def test_whoever_adds_to_a_set_pays_for_all_of_it(store: LabelStore) -> None:
    """Else a quota could be passed with sets that others made; taking labels out changes no owner."""
    small, other = Owner("small", max_labels=3), Owner("other", max_labels=5)
    store.put("shared", content_of("a", "b", "c"), ANY, other)
    with pytest.raises(QuotaExceededError):
        store.add("shared", labels_of("d"), ANY, small)
    store.remove("shared", "a", ANY)
    with pytest.raises(QuotaExceededError):
        store.put("more", content_of("a", "b", "c", "d"), ANY, other)
    store.add("shared", labels_of("d"), ANY, small)
    store.put("more", content_of("a", "b", "c", "d"), ANY, other)


def test_who_adds_what_is_there_owns_the_set_too(store: LabelStore) -> None:
    """The content stays as it is, and the set counts for the new owner."""
    store.put("s", content_of("a", "b"), ANY, Owner("first"))
    second = Owner("second", max_labels=3)
    store.add("s", labels_of("a"), ANY, second)
    with pytest.raises(QuotaExceededError, match="2 in others and 2 here"):
        store.put("more", content_of("c", "d"), ANY, second)


def test_quotas_hold_under_concurrent_writes(open_store: OpenStore) -> None:
    """From several threads and two processes' worth of stores; exactly as many succeed as may."""
    owner = Owner("k", max_label_sets=7)
    stores = [open_store() for _ in range(2)]

    def put(i: int) -> bool:
        try:
            stores[i % 2].put(f"s{i}", content_of("a"), ANY, owner)
        except QuotaExceededError:
            return False
        return True

    with ThreadPoolExecutor(8) as threads:
        n_stored = sum(threads.map(put, range(40)))
    assert n_stored == len(stores[0].page("", 100)) == 7
