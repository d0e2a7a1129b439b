"""The fields of a classify form: what is accepted, and what is refused with the remedy."""

from __future__ import annotations

import pytest

from service.api.bodies import read_form
from service.errors import (
    AmbiguousLabelsError,
    InvalidLabelError,
    InvalidOptionError,
    InvalidTemplateError,
    LabelError,
)

Fields = list[tuple[str, str]]


@pytest.mark.parametrize(
    ("fields", "names"),
    [
        ([("labels", "dog"), ("labels", "cat")], ["dog", "cat"]),
        ([("labels[]", "dog"), ("labels[]", "cat")], ["dog", "cat"]),
        ([("labels", '["dog", "cat"]')], ["dog", "cat"]),
        ([("labels", ' ["rain, hail"] ')], ["rain, hail"]),
        ([("labels", "rain, hail"), ("labels", "sun")], ["rain, hail", "sun"]),
        ([("labels", "dog")], ["dog"]),
        ([("labels", "[a"), ("labels", "b]")], ["[a", "b]"]),
        ([("labels", "[]")], []),
    ],
)
def test_labels_in_every_form(fields: Fields, names: list[str]) -> None:
    """Repeated, with brackets, or one JSON array; nothing is split at commas."""
    assert read_form(fields).labels == names


@pytest.mark.parametrize("value", ["dog,cat", "dog, cat"])
def test_one_value_with_a_comma_is_refused_with_the_remedy(value: str) -> None:
    """One label from a comma-joined list would be a wrong answer with status 200."""
    with pytest.raises(AmbiguousLabelsError, match=r"repeated fields .* or as a JSON array"):
        read_form([("labels", value)])


@pytest.mark.parametrize("value", ["[dog", "[1, 2]", '[["a"]]', '["a", null]', "[" * 100_000])
def test_a_bracket_that_is_no_array_of_strings_is_refused(value: str) -> None:
    """A JSON slip must not become a strange label."""
    with pytest.raises(InvalidLabelError, match="JSON array of strings"):
        read_form([("labels", value)])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("frames", "some"),
        ("top_k", "0"),
        ("top_k", "-1"),
        ("top_k", "three"),
        ("top_k", "1e3"),
        ("top_k", "9" * 5000),
        ("top_k", "\u0663"),
        ("calibration", "maybe"),
        ("calibration", "1_0"),
        ("calibration", "\u0661"),
        ("calibration", "-1"),
        ("calibration", "nan"),
        ("calibration", "inf"),
        ("calibration", "1000001"),
        ("segment_s", "0.5"),
        ("segment_s", "soon"),
        ("lables", "dog"),
    ],
)
def test_unacceptable_options_are_refused_by_name(name: str, value: str) -> None:
    """Each slip is an error that names the field."""
    with pytest.raises(InvalidOptionError, match=name):
        read_form([(name, value)])


@pytest.mark.parametrize(
    ("name", "value"),
    [("segment_s", 10 / 3), ("segment_s", 599.9999999999999), ("calibration", 1 / 3e7), ("calibration", 1e6)],
)
def test_a_number_may_be_sent_as_any_language_prints_it(name: str, value: float) -> None:
    """All digits of a double, and a negative exponent; the document says that it is a number."""
    options = read_form([(name, str(value))])
    assert (options.beta if name == "calibration" else options.segment_s) == value


def test_a_single_field_sent_twice_is_refused() -> None:
    """It would be unclear which one counts."""
    with pytest.raises(InvalidOptionError, match="top_k was sent more than once"):
        read_form([("top_k", "1"), ("top_k", "2")])


def test_labels_and_label_set_together_are_refused() -> None:
    """It would be unclear what is ranked."""
    with pytest.raises(InvalidOptionError, match="not both"):
        read_form([("labels", "dog"), ("label_set", "animals")])


def test_all_options() -> None:
    """Every documented field arrives."""
    options = read_form(
        [
            ("label_set", "animals"),
            ("top_k", "3"),
            ("templates", "a {}."),
            ("templates", "the {}."),
            ("calibration", "1.5"),
            ("segment_s", "10"),
            ("bundle", "demo"),
        ]
    )
    assert (options.label_set, options.top_k, options.bundle) == ("animals", 3, "demo")
    assert options.templates == ("a {}.", "the {}.")
    assert (options.beta, options.segment_s) == (1.5, 10.0)


def test_a_template_without_placeholder_is_refused() -> None:
    """It would give every label the same text."""
    with pytest.raises(LabelError, match=r"has no \{\}"):
        read_form([("templates", "a dog")])


@pytest.mark.parametrize("name", ["labels", "templates"])
def test_several_json_arrays_are_refused(name: str) -> None:
    """Each would become one strange name."""
    with pytest.raises(AmbiguousLabelsError, match="looks like a JSON array"):
        read_form([(name, '["a {}"]'), (name, '["b {}", "c {}"]')])


def test_an_empty_list_of_templates_is_refused() -> None:
    """It would silently be the bundle's own."""
    with pytest.raises(InvalidTemplateError, match="leave them out"):
        read_form([("labels", "a"), ("templates", "[]")])
