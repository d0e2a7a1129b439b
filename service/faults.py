"""Validation faults in the service's own words, so that no text of the validation library reaches a user."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

_MAX_PLACES = 10
# Of a name that was sent.
_MAX_CHARACTERS = 80
_WORDS = {
    "json_invalid": "is not valid JSON",
    "missing": "is missing",
    "extra_forbidden": "is not a known field",
    "value_error": "is not acceptable: {error}",
    "string_type": "must be a string",
    "string_too_short": "is too short",
    "string_too_long": "is too long",
    "string_pattern_mismatch": "does not have the documented form",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "finite_number": "must be a finite number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "path_type": "must be a path",
    "list_type": "must be a list",
    "tuple_type": "must be a list",
    "model_type": "must be an object",
    "model_attributes_type": "must be an object",
    "dict_type": "must be an object",
    "datetime_type": "must be a date and time",
    "datetime_parsing": "must be a date and time",
    "datetime_from_date_parsing": "must be a date and time",
    "too_short": "has too few items",
    "too_long": "has too many items",
    "greater_than": "must be more than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
    "literal_error": "must be {expected}",
    "union_tag_invalid": "has an unknown kind; the kinds are {expected_tags}",
    "union_tag_not_found": "has no kind",
}
"""What to say for each type of fault; fields in braces are values that the fault carries, such as a limit."""

# How the validator names the alternatives of a union in a path: a class, a type or an expression.
_ALTERNATIVE = re.compile(r"str|[A-Z]\w*|.*\[.*")


def list_faults(faults: Sequence[Mapping[str, Any]], whole: str) -> list[str]:
    """What is wrong and where, one line per place, at most ten.

    Args:
        faults: As `pydantic.ValidationError.errors()` lists them.
        whole: What to call the whole of what was validated, for faults of no field in particular.
    """
    found: dict[str, list[str]] = {}
    for fault in faults:
        place = _place(fault["loc"], keep_last=fault["type"] == "extra_forbidden") or whole
        if place not in found and len(found) == _MAX_PLACES:
            break
        clauses = found.setdefault(place, [])
        clause = describe_fault(fault)
        if clause not in clauses:
            clauses.append(clause)
    return [f"{place} {' or '.join(clauses)}" for place, clauses in found.items()]


def describe_faults(faults: Sequence[Mapping[str, Any]], whole: str) -> str:
    """The faults of `list_faults` in one line."""
    return "; ".join(list_faults(faults, whole))


def describe_fault(fault: Mapping[str, Any]) -> str:
    """What is wrong, such as `must be at least 1`, without saying where."""
    # The context of a `value_error` is the ValueError. Only validators of this service raise it, so its text
    # is ours.
    context = fault.get("ctx", {})
    values = {key: f"{value:g}" if isinstance(value, float) else value for key, value in context.items()}
    return _WORDS.get(fault["type"], "is not acceptable").format(**values)


def _place(path: Sequence[str | int], *, keep_last: bool) -> str:
    """Names of fields and numbers of items, joined by dots, without the alternatives of a union.

    Args:
        path: As the validator gives it.
        keep_last: Whether the last part is a name that was sent, whatever it looks like.
    """
    last = len(path) - 1 if keep_last else None
    return ".".join(
        str(part)[:_MAX_CHARACTERS]
        for i, part in enumerate(path)
        if isinstance(part, int) or i == last or not _ALTERNATIVE.fullmatch(part)
    )
