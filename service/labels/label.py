"""Candidate names: what a label is, its prompts and templates, and which lists of names are acceptable."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from service.errors import (
    AmbiguousLabelsError,
    DuplicateLabelsError,
    InvalidLabelError,
    InvalidTemplateError,
    LabelError,
    NoLabelsError,
    TooManyLabelsError,
    TooMuchTextError,
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
    if cleaned.isprintable():  # nearly all texts: nothing of what follows can be in them
        return cleaned
    if any(unicodedata.category(character) in _REFUSED_CATEGORIES for character in cleaned):
        raise error(f"{what} {cleaned[:80]!a} contains control, surrogate or unassigned characters")
    if not any(character.isprintable() and not character.isspace() for character in cleaned):
        raise error(f"a {what} has no visible character")
    return cleaned


MAX_NAME_CHARACTERS = 256
MAX_PROMPT_CHARACTERS = 512
MAX_PROMPTS = 64
PLACEHOLDER = "{}"
# The name goes into each of them: without a limit, a kilobyte of template becomes a hundred of prompt.
MAX_PLACEHOLDERS = 4


@dataclass(frozen=True)
class Label:
    """A candidate name.

    Attributes:
        name: NFC, no control characters, single spaces, 1 to MAX_NAME_CHARACTERS characters.
        prompts: Texts to encode instead of the filled templates; `{}` in them is replaced by the name.
    """

    name: str
    prompts: tuple[str, ...] = ()


class SetVersion(NamedTuple):
    """A label set at one time.

    Attributes:
        name: Of the set.
        etag: Of its content: no other content has it.
    """

    name: str
    etag: str


@dataclass(frozen=True)
class Candidates:
    """The labels that one request ranks.

    Attributes:
        labels: At least one, already checked.
        version: The label set that they are all of, by which they are recognised; None: there is none.
    """

    labels: tuple[Label, ...]
    version: SetVersion | None = None

    def check_prompt_characters(self, templates: Sequence[str], maximum: int) -> None:
        """Check how much text would have to be encoded, before any of it is put together.

        Args:
            templates: Filled for labels without prompts of their own.
            maximum: Characters of all prompts together.

        Raises:
            TooMuchTextError: More than that.
        """
        total = self.n_prompt_characters(templates)
        if total > maximum:
            raise TooMuchTextError(
                f"the {len(self.labels)} labels make prompts of {total} characters together; at most "
                f"{maximum} are allowed. Send fewer labels, templates or prompts, or shorter ones"
            )

    def n_prompt_characters(self, templates: Sequence[str]) -> int:
        """Characters of all prompts together, with the names filled in.

        Args:
            templates: Filled for labels without prompts of their own.
        """
        n_own, n_plain, n_name_characters = self._text
        n_fixed, n_places = _lengths(templates)
        return n_own + n_plain * n_fixed + n_places * n_name_characters

    @cached_property
    def _text(self) -> tuple[int, int, int]:
        """Characters of the labels' own prompts; labels without any, and the characters of their names."""
        plain = [len(label.name) for label in self.labels if not label.prompts]
        own = [(*_lengths(label.prompts), len(label.name)) for label in self.labels if label.prompts]
        return sum(fixed + places * n for fixed, places, n in own), len(plain), sum(plain)


def make_label(name: str, prompts: Iterable[str] = ()) -> Label:
    """Normalise and check one name and its prompts.

    Raises:
        InvalidLabelError: Empty, too long, with control characters or too many placeholders.
    """
    checked = tuple(clean_text(prompt, "prompt", MAX_PROMPT_CHARACTERS) for prompt in prompts)
    for prompt in checked:
        _check_placeholders(prompt, "prompt", InvalidLabelError)
    if len(checked) > MAX_PROMPTS:
        raise InvalidLabelError(f"label {name[:80]!r} has {len(checked)} prompts; at most {MAX_PROMPTS}")
    return Label(clean_text(name, "label", MAX_NAME_CHARACTERS), checked)


def check_lone_label(value: str, remedy: str) -> None:
    """Question a single value with a comma in it: nothing is split at commas, since names may contain them.

    Args:
        value: The only label that was given.
        remedy: How to give a list, and how a name with a comma.

    Raises:
        AmbiguousLabelsError: It has one.
    """
    if "," in value:
        raise AmbiguousLabelsError(
            f"labels holds one value with a comma in it, which may be one name or a list. {remedy}"
        )


def label_key(name: str) -> str:
    """What makes two names the same: compatibility form, case and spacing are ignored."""
    return " ".join(unicodedata.normalize("NFKC", name).casefold().split())


def check_count(n_labels: int, max_labels: int) -> None:
    """Check the number alone, before any work is done on the names.

    Raises:
        TooManyLabelsError: More than max_labels.
    """
    if n_labels > max_labels:
        raise TooManyLabelsError(f"{n_labels} labels were given; at most {max_labels} are allowed here")


def count_characters(labels: Iterable[Label], templates: Sequence[str] | None) -> int:
    """Characters of names, and of all prompts with the names filled in: what a label set takes.

    Args:
        labels: Of the set.
        templates: Of the set; None: those of a bundle are filled, which is not known yet, and do not count.
    """
    labels = tuple(labels)
    return sum(len(label.name) for label in labels) + Candidates(labels).n_prompt_characters(templates or ())


def check_characters(n_characters: int, max_characters: int) -> None:
    """Check how much text a label set would have, as `count_characters` counts it.

    Raises:
        TooMuchTextError: More than max_characters.
    """
    if n_characters > max_characters:
        raise TooMuchTextError(
            f"the label set would have {n_characters} characters: of names, and of prompts with the names "
            f"filled in; at most {max_characters} are allowed. Send fewer labels, templates or prompts, or "
            "shorter ones"
        )


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


MAX_TEMPLATES = 64
MAX_TEMPLATE_CHARACTERS = 500


def check_templates(templates: Sequence[str]) -> tuple[str, ...]:
    """Normalise and check templates that a client sent.

    Raises:
        InvalidTemplateError: None, too many, or one that is too long or has no placeholder or too many.
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
        _check_placeholders(template, "template", InvalidTemplateError)
    return tuple(cleaned)


def fill(template: str, name: str) -> str:
    """Put a name into a template. Literal replacement: neither is ever read as a format."""
    return template.replace(PLACEHOLDER, name)


def _lengths(texts: Sequence[str]) -> tuple[int, int]:
    """Characters outside of placeholders, and placeholders, of all texts together."""
    n_places = sum(text.count(PLACEHOLDER) for text in texts)
    return sum(map(len, texts)) - n_places * len(PLACEHOLDER), n_places


def _check_placeholders(text: str, what: str, error: type[LabelError]) -> None:
    found = text.count(PLACEHOLDER)
    if found > MAX_PLACEHOLDERS:
        raise error(
            f"{what} {text[:40]!r}... has {found} placeholders {PLACEHOLDER}; at most {MAX_PLACEHOLDERS}"
        )
