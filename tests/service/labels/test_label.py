"""What is a name, and when two are the same."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import (
    DuplicateLabelsError,
    InvalidLabelError,
    InvalidTemplateError,
    NoLabelsError,
    TooManyLabelsError,
    TooMuchTextError,
)
from service.labels.label import Candidates, Label, check_labels, check_templates, fill, make_label


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("  dog  ", "dog"),
        ("playing\t the\nguitar", "playing the guitar"),
        ("cafe\u0301", "caf\u00e9"),
        ("rain, hail, or snow", "rain, hail, or snow"),
        ("\U0001f436 \u72ac", "\U0001f436 \u72ac"),
        ("{__class__}", "{__class__}"),
    ],
)
def test_names_are_normalised(sent: str, kept: str) -> None:
    """Canonical form, single spaces; everything else stays as it was sent."""
    assert make_label(sent).name == kept


@pytest.mark.parametrize("sent", ["", "   ", "\n", "\u200b", "a\x00b", "\ud800", "x" * 257, "\u2028"])
def test_names_without_substance_are_refused(sent: str) -> None:
    """Empty, invisible, too long, or with control characters."""
    with pytest.raises(InvalidLabelError):
        make_label(sent)


def test_too_many_prompts_are_refused() -> None:
    """A label's cost is bounded."""
    with pytest.raises(InvalidLabelError, match="65 prompts; at most 64"):
        make_label("dog", ["a dog"] * 65)


@pytest.mark.parametrize("twin", ["dog", "DOG", " dog ", "\uff44og"])
def test_names_that_differ_in_form_only_are_duplicates(twin: str) -> None:
    """Case, spacing and compatibility forms are the same name."""
    with pytest.raises(DuplicateLabelsError, match="are the same name"):
        check_labels([make_label("dog"), make_label("cat"), make_label(twin)], 10)


def test_list_limits() -> None:
    """None is too few, and the limit itself is still allowed."""
    labels = [make_label(f"label {i}") for i in range(4)]
    check_labels(labels, 4)
    with pytest.raises(TooManyLabelsError, match="4 labels were given; at most 3"):
        check_labels(labels, 3)
    with pytest.raises(NoLabelsError):
        check_labels([], 3)


def test_templates_are_filled_literally() -> None:
    """Neither the name nor the template is ever read as a format."""
    assert fill("a {} of {0.__class__} {}", "{x}") == "a {x} of {0.__class__} {x}"


@pytest.mark.parametrize("templates", [["a dog"], ["{}" * 400], ["{}"] * 65])
def test_bad_templates_are_refused(templates: list[str]) -> None:
    """No placeholder, too long, too many."""
    with pytest.raises(InvalidTemplateError):
        check_templates(templates)


def test_prompts_have_room_for_few_names() -> None:
    """As templates do: they are stored, and filled with every request."""
    assert make_label("red", ["{} {} {} {}"]).prompts == ("{} {} {} {}",)
    with pytest.raises(InvalidLabelError, match=r"has 5 placeholders \{\}; at most 4"):
        make_label("red", ["{} {} {} {} {}"])


@given(
    st.lists(
        st.tuples(st.text("ab", min_size=1, max_size=5), st.lists(st.sampled_from(["x {}", "{}{}", "yy"])))
    ),
    st.lists(st.sampled_from(["a {}.", "{} {}"]), min_size=1),
)
def test_the_characters_of_all_prompts_are_counted_without_filling_them(
    named: list[tuple[str, list[str]]], templates: list[str]
) -> None:
    """The same as of the filled prompts."""
    labels = tuple(Label(name, tuple(prompts)) for name, prompts in named)
    total = sum(len(fill(text, one.name)) for one in labels for text in one.prompts or templates)
    Candidates(labels).check_prompt_characters(templates, total)
    with pytest.raises(TooMuchTextError, match=f"of {total} characters together; at most {total - 1} are"):
        Candidates(labels).check_prompt_characters(templates, total - 1)
