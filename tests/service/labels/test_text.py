"""How much text a label set may have, and how much of it is read at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from service.errors import TooMuchTextError
from service.labels import changes
from service.labels.changes import RecentSets
from service.labels.label import Label, count_characters, make_label
from service.labels.store import Content, Edit, LabelSet, LabelStore
from tests.service.labels.conftest import ANY, LONGEST_TEMPLATES, OpenStore, content_of, labels_of


def test_characters_are_of_names_and_of_what_is_encoded_for_them() -> None:
    """Own prompts stand for templates; those of a bundle are not known."""
    labels = [Label("red"), Label("blue", ("{} {}", "sea"))]
    assert count_characters(labels, None) == len("red" + "blue" + "blue blue" + "sea")
    assert count_characters(labels, ("a {}", "{}")) == count_characters(labels, None) + len("a red" + "red")


def test_the_characters_of_a_set_follow_its_edits(open_store: OpenStore) -> None:
    """With prompts that replace others, and templates; another process has the same."""
    store, templates = open_store(), ("a {}", "{} {}")
    store.put("s", Content(labels_of("red", "blue"), templates), ANY)
    edits: list[Callable[[], object]] = [
        lambda: store.add("s", labels_of("green", "RED"), ANY),
        lambda: store.add("s", [make_label("red", ["{} wine", "x"]), make_label("teal", ["sea"])], ANY),
        lambda: store.add("s", [make_label("red", ["x"])], ANY),
        lambda: store.remove("s", "Red", ANY),
        lambda: store.remove("s", "green", ANY),
        lambda: store.put("s", content_of("red"), ANY),
    ]
    for edit in edits:
        edit()
        found = open_store().get("s")
        assert found.n_characters == count_characters(found.labels, found.templates)
        assert found == store.get("s")


def test_more_text_than_a_set_may_have_is_refused(open_store: OpenStore) -> None:
    """With the numbers, and nothing is changed; as much as it may have is kept, and can be ranked."""
    store, templates = open_store(max_characters=20), ("{}s",)
    with pytest.raises(TooMuchTextError, match=r"would have 24 characters: .*; at most 20 are"):
        store.put("s", Content(labels_of("12345", "123456"), templates), ANY)
    store.put("s", Content(labels_of("1234", "123"), templates), ANY)
    before = store.get("s")
    for more in (labels_of("12"), [make_label("1234", ["1234567890"])]):
        with pytest.raises(TooMuchTextError, match="at most 20 are allowed"):
            store.add("s", more, ANY)
    assert store.get("s") == before
    assert store.add("s", labels_of("1"), ANY).n_characters == 19
    full = store.add("s", [make_label("1234", ["{}12"])], ANY)
    assert full.n_characters == 20
    store.get("s").candidates.check_prompt_characters(templates, 20)


def test_a_set_with_more_text_than_it_may_have_may_become_smaller(open_store: OpenStore) -> None:
    """One that is there already, under a limit that was larger; it may not grow."""
    open_store().put("s", content_of("1234567890"), ANY)
    store = open_store(max_characters=5)
    assert store.add("s", labels_of("1234567890"), ANY).n_characters == 10
    with pytest.raises(TooMuchTextError, match="at most 5 are allowed"):
        store.add("s", labels_of("1"), ANY)


def test_a_page_ends_where_templates_are_long(store: LabelStore) -> None:
    """The longest ones of a thousand sets would be hundreds of megabytes; all are found, page by page."""
    names = [f"s{i:02d}" for i in range(25)]
    for name in names:
        store.put(name, Content((), LONGEST_TEMPLATES), ANY)
    found, sizes = list[str](), list[int]()
    while page := store.page(found[-1] if found else "", 1_000):
        found += [one.name for one in page]
        sizes.append(len(page))
    assert found == names
    assert sizes == [10, 10, 5]


def test_sets_that_are_kept_as_read_are_weighed_by_their_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not by their labels alone; one that is larger than all that is kept is kept alone."""
    monkeypatch.setattr(changes, "_RECENT_BYTES", 10_000)
    recent = RecentSets()

    def kept(name: str, prompts: tuple[str, ...], templates: tuple[str, ...] | None = None) -> LabelSet:
        now = datetime.now(UTC)
        one = LabelSet(name, 1, 0, templates, None, "etag", now, now, (Label("a", prompts),))
        recent.keep(one)
        return one

    small, other = kept("small", ("p" * 500,)), kept("other", ("pp",) * 35)
    assert (recent.get("small"), recent.get("other")) == (small, other)
    longer = kept("longer", (), ("{}" * 500,))
    assert (recent.get("small"), recent.get("other"), recent.get("longer")) == (None, other, longer)
    more = (Label("b", ("p" * 1_000,)),)
    grown = replace(longer, n_labels=2, etag="another")
    recent.edit(longer, grown, Edit(added=more))
    assert recent.get("other") is None
    assert recent.get("longer") == replace(grown, labels=longer.labels + more)
    longest = kept("longest", ("p" * 999_999,))
    assert (recent.get("other"), recent.get("longer"), recent.get("longest")) == (None, None, longest)
