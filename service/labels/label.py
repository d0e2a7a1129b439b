"""Candidate names: what a label is, its prompts and templates, and which lists of names are acceptable."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from service.errors import (
    DuplicateLabelsError,
    InvalidLabelError,
    InvalidTemplateError,
    LabelError,
    NoLabelsError,
    TooManyLabelsError,
)

_REFUSED_CATEGORIES = {"Cc", "Cs", "Cn"}


def clean_text(text: str, what: str, limit: int, error: type[LabelError] = InvalidLabelError) -> str:
    """Canonical form (NFC), single spaces, something to see.

    Args:
        text: As it was sent.
        what: What it is, for the message: label, prompt, template.
        limit: Most characters.
        error: What to raise.

    Raises:
        LabelError: Empty, too long, invisible, or with control, surrogate or unassigned characters.
    """
    if len(text) > 8 * limit:
        raise error(f"a {what} has {len(text)} characters; at most {limit}")
    cleaned = " ".join(unicodedata.normalize("NFC", text).split())
    if not cleaned:
        raise error(f"a {what} is empty; every {what} needs at least one visible character")
    if len(cleaned) > limit:
        raise error(f"{what} {cleaned[:40]!r}... has {len(cleaned)} characters; at most {limit}")
    if any(unicodedata.category(character) in _REFUSED_CATEGORIES for character in cleaned):
        raise error(f"{what} {cleaned[:80]!a} contains control, surrogate or unassigned characters")
    if not any(character.isprintable() and not character.isspace() for character in cleaned):
        raise error(f"a {what} has no visible character")
    return cleaned


MAX_NAME_CHARACTERS = 256
MAX_PROMPT_CHARACTERS = 512
MAX_PROMPTS = 64


@dataclass(frozen=True)
class Label:
    """A candidate name.

    Attributes:
        name: NFC, no control characters, single spaces, 1 to MAX_NAME_CHARACTERS characters.
        prompts: Texts to encode instead of the filled templates; `{}` in them is replaced by the name.
    """

    name: str
    prompts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Candidates:
    """The labels that one request ranks.

    Attributes:
        labels: At least one, already checked.
        cache_key: A key that only this list has, such as the ETag of its label set; None: it has none.
    """

    labels: tuple[Label, ...]
    cache_key: str | None = None


def make_label(name: str, prompts: Iterable[str] = ()) -> Label:
    """Normalise and check one name and its prompts.

    Raises:
        InvalidLabelError: Empty, too long, or with control characters.
    """
    checked = tuple(clean_text(prompt, "prompt", MAX_PROMPT_CHARACTERS) for prompt in prompts)
    if len(checked) > MAX_PROMPTS:
        raise InvalidLabelError(f"label {name[:80]!r} has {len(checked)} prompts; at most {MAX_PROMPTS}")
    return Label(clean_text(name, "label", MAX_NAME_CHARACTERS), checked)


def label_key(name: str) -> str:
    """What makes two names the same: compatibility form, case and spacing are ignored."""
    return " ".join(unicodedata.normalize("NFKC", name).casefold().split())


def merge_labels(stored: Sequence[Label], added: Sequence[Label]) -> list[Label]:
    """The stored labels and behind them those of the added ones that are new.

    A label that is stored already stays where it is, and takes the prompts of the added one if that has any.
    So adding the same labels again changes nothing.
    """
    merged = {label_key(label.name): label for label in stored}
    for label in added:
        known = merged.setdefault(label_key(label.name), label)
        if label.prompts:
            merged[label_key(label.name)] = Label(known.name, label.prompts)
    return list(merged.values())


def check_count(n_labels: int, max_labels: int) -> None:
    """Check the number alone, before any work is done on the names.

    Raises:
        TooManyLabelsError: More than max_labels.
    """
    if n_labels > max_labels:
        raise TooManyLabelsError(f"{n_labels} labels were given; at most {max_labels} are allowed here")


def check_labels(labels: Sequence[Label], max_labels: int, *, may_be_empty: bool = False) -> None:
    """Check a list of names as a whole.

    Args:
        labels: The names.
        max_labels: Most of them.
        may_be_empty: A label set may be, candidates may not.

    Raises:
        NoLabelsError: The list is empty.
        TooManyLabelsError: More than max_labels.
        DuplicateLabelsError: Two names are the same after normalisation.
    """
    if not labels and not may_be_empty:
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


PLACEHOLDER = "{}"
MAX_TEMPLATES = 64
MAX_TEMPLATE_CHARACTERS = 500


def check_templates(templates: Sequence[str]) -> tuple[str, ...]:
    """Normalise and check templates that a client sent.

    Raises:
        InvalidTemplateError: None, too many, or one that is too long or has no placeholder.
    """
    if not 1 <= len(templates) <= MAX_TEMPLATES:
        raise InvalidTemplateError(
            f"{len(templates)} templates were given; send 1 to {MAX_TEMPLATES}, or leave them out"
        )
    cleaned = [
        clean_text(one, "template", MAX_TEMPLATE_CHARACTERS, InvalidTemplateError) for one in templates
    ]
    for template in cleaned:
        if PLACEHOLDER not in template:
            raise InvalidTemplateError(
                f"template {template[:80]!r} has no {PLACEHOLDER}, which stands for the name"
            )
    return tuple(cleaned)


def fill(template: str, name: str) -> str:
    """Put a name into a template. Literal replacement: neither is ever read as a format."""
    return template.replace(PLACEHOLDER, name)
