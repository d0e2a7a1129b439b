"""A candidate name: what it is, and which lists of names are acceptable."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from service.errors import (
    DuplicateLabelsError,
    InvalidLabelError,
    NoLabelsError,
    TooManyLabelsError,
)
from service.labels.text import clean_text

MAX_NAME_CHARACTERS = 256
MAX_PROMPT_CHARACTERS = 512
MAX_PROMPTS = 64


@dataclass(frozen=True)
class Label:
    """One candidate."""

    name: str
    """NFC, no control characters, single spaces, 1..MAX_NAME_CHARACTERS."""
    prompts: tuple[str, ...] = ()
    """texts that stand for the name instead of the templates; `{}` in them is replaced by the name."""


def make_label(name: str, prompts: Iterable[str] = ()) -> Label:
    """Normalise and check one name and its prompts.

    Raises:
        InvalidLabelError: empty, too long, or with control characters.
    """
    checked = tuple(clean_text(prompt, "prompt", MAX_PROMPT_CHARACTERS) for prompt in prompts)
    if len(checked) > MAX_PROMPTS:
        raise InvalidLabelError(f"label {name[:80]!r} has {len(checked)} prompts; at most {MAX_PROMPTS}")
    return Label(clean_text(name, "label", MAX_NAME_CHARACTERS), checked)


def label_key(name: str) -> str:
    """What makes two names the same: compatibility form, case and spacing are ignored."""
    return " ".join(unicodedata.normalize("NFKC", name).casefold().split())


def check_count(n_labels: int, max_labels: int) -> None:
    """Check the number alone, before any work is done on the names.

    Raises:
        TooManyLabelsError: more than max_labels.
    """
    if n_labels > max_labels:
        raise TooManyLabelsError(f"{n_labels} labels were given; at most {max_labels} are allowed here")


def check_labels(labels: Sequence[Label], max_labels: int) -> None:
    """Check a list of candidates as a whole.

    Raises:
        NoLabelsError: the list is empty.
        TooManyLabelsError: more than max_labels.
        DuplicateLabelsError: two names are the same after normalisation.
    """
    if not labels:
        raise NoLabelsError("no labels were given; send at least one candidate name")
    check_count(len(labels), max_labels)
    first: dict[str, str] = {}
    for label in labels:
        key = label_key(label.name)
        if key in first:
            raise DuplicateLabelsError(
                f"labels {first[key]!r} and {label.name!r} are the same name (case, spacing and Unicode form "
                "are ignored); send each name once"
            )
        first[key] = label.name
