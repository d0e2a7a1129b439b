"""The fields of a classify form, read into checked options."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from service.errors import AmbiguousLabelsError, InvalidLabelError, InvalidOptionError
from service.labels.label import Label, make_label
from service.labels.templates import check_templates
from service.rank.ranking import Stacking

_LIST_FIELDS = ("labels", "templates")
_SINGLE_FIELDS = ("label_set", "top_k", "calibration", "bundle")


@dataclass(frozen=True)
class ClassifyOptions:
    """What a client asks besides the clip."""

    labels: tuple[Label, ...]
    """empty when a label set is named."""
    label_set: str | None
    templates: tuple[str, ...] | None
    top_k: int | None
    """None: all candidates."""
    stacking: Stacking
    bundle: str | None
    """None: the default bundle."""


def parse_options(fields: Iterable[tuple[str, str]]) -> ClassifyOptions:
    """Read the form's fields.

    Raises:
        InvalidOptionError: an unknown field, a field given twice, or a value that is not acceptable.
        LabelError: labels or templates that are not acceptable.
    """
    grouped = _group(fields)
    single = {name: grouped[name][0] for name in _SINGLE_FIELDS if name in grouped}
    labels = _strings("labels", grouped.get("labels", []))
    if labels and "label_set" in single:
        raise InvalidOptionError("Send either labels or label_set, not both.")
    templates = _strings("templates", grouped.get("templates", []))
    return ClassifyOptions(
        labels=tuple(make_label(name) for name in labels),
        label_set=single.get("label_set"),
        templates=check_templates(templates) if templates else None,
        top_k=_top_k(single.get("top_k")),
        stacking=parse_stacking(single.get("calibration", "auto")),
        bundle=single.get("bundle"),
    )


def _group(fields: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    grouped: dict[str, list[str]] = {}
    for sent, value in fields:
        name = sent.removesuffix("[]") if sent.removesuffix("[]") in _LIST_FIELDS else sent
        if name not in (*_LIST_FIELDS, *_SINGLE_FIELDS):
            known = ", ".join(("file", *_LIST_FIELDS, *_SINGLE_FIELDS))
            raise InvalidOptionError(f"There is no field {sent[:80]!r}; the fields are: {known}.")
        grouped.setdefault(name, []).append(value)
    for name in _SINGLE_FIELDS:
        if len(grouped.get(name, [])) > 1:
            raise InvalidOptionError(f"The field {name} was sent more than once.")
    return grouped


def _strings(name: str, values: Sequence[str]) -> list[str]:
    """Repeated plain values, or one JSON array. Nothing is ever split at commas: names may contain them."""
    if len(values) != 1:
        return list(values)
    value = values[0].strip()
    if value.startswith("["):
        return _json_strings(name, value)
    if name == "labels" and "," in value:
        raise AmbiguousLabelsError(
            "labels holds one value with a comma in it, which may be one name or a list. Send a list as "
            "repeated fields (-F labels=dog -F labels=cat) or as a JSON array "
            """(-F 'labels=["dog","cat"]'); send one name with a comma as a JSON array of one."""
        )
    return [values[0]]


def _json_strings(name: str, value: str) -> list[str]:
    try:
        parsed = json.loads(value)
    except (ValueError, RecursionError):
        raise InvalidLabelError(
            f"{name} starts with [ but is not a JSON array of strings; "
            "send a name that starts with [ inside such an array"
        ) from None
    if not isinstance(parsed, list) or not all(isinstance(item, str) for item in parsed):
        raise InvalidLabelError(f"{name} must be a JSON array of strings")
    return parsed


def _top_k(value: str | None) -> int | None:
    if value is None:
        return None
    if not (value.isascii() and value.isdecimal() and 1 <= int(value[:9]) <= 10**6 and len(value) <= 7):
        raise InvalidOptionError("top_k must be a whole number from 1 to 1000000.")
    return int(value)


def parse_stacking(value: str) -> Stacking:
    """auto, off, or a beta from 0 on; raises InvalidOptionError."""
    if value == "auto":
        return "auto"
    if value == "off":
        return "off"
    try:
        beta = float(value)
    except ValueError:
        beta = math.nan
    if not 0 <= beta <= 1e6:
        raise InvalidOptionError("calibration must be auto, off, or a number from 0 to 1000000.")
    return beta
