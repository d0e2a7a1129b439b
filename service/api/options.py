"""The fields of a classify form, read into checked options."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import cast, get_args

from service.decode.segment_length import SegmentLength, parse_segment_length
from service.errors import AmbiguousLabelsError, InvalidLabelError, InvalidOptionError
from service.labels.label import Label, check_count, make_label
from service.labels.templates import check_templates
from service.media import Frames
from service.rank.ranking import Stacking, parse_stacking

_LIST_FIELDS = ("labels", "templates")
_SINGLE_FIELDS = ("label_set", "top_k", "calibration", "segment_s", "frames", "bundle")


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
    segment_s: SegmentLength | None
    """None: no segments."""
    frames: Frames | None
    """None: as the deployment has it."""
    bundle: str | None
    """None: the default bundle."""


def parse_options(fields: Iterable[tuple[str, str]], max_labels: int) -> ClassifyOptions:
    """Read the form's fields.

    Args:
        fields: names and values in the order sent.
        max_labels: most labels; counted before any work is done on them.

    Raises:
        InvalidOptionError: an unknown field, a field given twice, or a value that is not acceptable.
        LabelError: labels or templates that are not acceptable.
    """
    grouped = _group(fields)
    single = {name: grouped[name][0] for name in _SINGLE_FIELDS if name in grouped}
    labels = _strings("labels", grouped.get("labels", []))
    if labels and "label_set" in single:
        raise InvalidOptionError("Send either labels or label_set, not both.")
    check_count(len(labels), max_labels)
    templates = _strings("templates", grouped["templates"]) if "templates" in grouped else None
    return ClassifyOptions(
        labels=tuple(make_label(name) for name in labels),
        label_set=single.get("label_set"),
        templates=None if templates is None else check_templates(templates),
        top_k=_top_k(single.get("top_k")),
        stacking=parse_stacking(single.get("calibration", "auto")),
        segment_s=parse_segment_length(single["segment_s"]) if "segment_s" in single else None,
        frames=None if "frames" not in single else parse_frames(single["frames"]),
        bundle=single.get("bundle"),
    )


def parse_frames(text: str) -> Frames:
    """Read `exact` or `key`.

    Raises:
        InvalidOptionError: anything else.
    """
    if text not in get_args(Frames):
        raise InvalidOptionError("frames must be exact, or key for the nearest key frames.")
    return cast(Frames, text)


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
        if any(value.lstrip().startswith("[") and value.rstrip().endswith("]") for value in values):
            raise AmbiguousLabelsError(
                f"{name} was sent several times and one value looks like a JSON array; send repeated plain "
                "values, or all of them in one JSON array"
            )
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
    if not (re.fullmatch(r"[0-9]{1,7}", value) and 1 <= int(value) <= 10**6):
        raise InvalidOptionError("top_k must be a whole number from 1 to 1000000.")
    return int(value)
