"""Label sets, and the interface of a store that keeps them."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Protocol

from service.errors import InvalidNameError
from service.labels.label import Candidates, Label

SET_NAME = "^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"


def check_set_name(name: str) -> str:
    """The name of a label set, as it is.

    Raises:
        InvalidNameError: It can't be one.
    """
    if not re.fullmatch(SET_NAME, name):
        raise InvalidNameError(
            f"{name[:80]!r} is no name for a label set; use 1 to 100 letters, digits, dots, dashes and "
            "underscores, beginning with a letter or digit"
        )
    return name


@dataclass(frozen=True)
class LabelSet:
    """A named list of labels, kept across restarts.

    Attributes:
        name: Its name in URLs.
        labels: In the order they were added.
        templates: Prompt templates for both tracks; None for those of the bundle.
        etag: Hash of the content: equal content has an equal etag.
        created: When the set was created.
        updated: When its content changed last.
    """

    name: str
    labels: tuple[Label, ...]
    templates: tuple[str, ...] | None
    etag: str
    created: datetime
    updated: datetime

    @cached_property
    def candidates(self) -> Candidates:
        """Its labels as what a request ranks; always the same value, so sums over it are made once."""
        return Candidates(self.labels, self.etag)


@dataclass(frozen=True)
class LabelSetSummary:
    """A label set without its labels, for listings."""

    name: str
    n_labels: int
    etag: str
    updated: datetime


@dataclass(frozen=True)
class Precondition:
    """A condition of a change (RFC 9110, If-Match and If-None-Match).

    Attributes:
        etags: The stored etag must be one of these; `*` matches any stored set. None: no condition.
        absent: No set must be stored under the name yet.
    """

    etags: tuple[str, ...] | None = None
    absent: bool = False


@dataclass(frozen=True)
class Owner:
    """Whose a label set is: that of whoever last put it or added to it, who pays for all its labels.

    Attributes:
        id: Id of an API key; empty: nobody's.
        max_label_sets: Maximum number of sets that it may own; None: any.
        max_labels: Maximum number of labels in them together; None: any.
    """

    id: str = ""
    max_label_sets: int | None = None
    max_labels: int | None = None


NOBODY = Owner()


class LabelStore(Protocol):
    """Keeps label sets durably. Every method is thread-safe; a write is applied whole or not at all.

    Writes raise PreconditionFailedError when the precondition does not hold, and all methods but `put` and
    `page` raise UnknownLabelSetError when no set has the name. `put` and `add` give the set to the owner, and
    raise QuotaExceededError when it would then own more than it may, also with other writes at the same time.
    """

    def get(self, name: str) -> LabelSet:
        """The set of that name."""

    def page(self, after: str, limit: int) -> list[LabelSetSummary]:
        """Up to limit sets whose names sort behind `after`, in order of name."""

    def put(
        self,
        name: str,
        labels: Sequence[Label],
        templates: tuple[str, ...] | None,
        precondition: Precondition,
        owner: Owner = NOBODY,
    ) -> tuple[LabelSet, bool]:
        """Create or replace a set; the flag says that it is new."""

    def add(
        self, name: str, labels: Sequence[Label], precondition: Precondition, owner: Owner = NOBODY
    ) -> LabelSet:
        """Append the labels that are new, as `merge_labels` says.

        Raises DuplicateLabelsError when two of them are the same, and TooManyLabelsError when the sum is more
        than a set may hold.
        """

    def remove(self, name: str, label: str, precondition: Precondition) -> LabelSet:
        """Take one label out; raises UnknownLabelError when the set has no such label."""

    def delete(self, name: str, precondition: Precondition) -> None:
        """Delete a set."""

    def check(self) -> None:
        """Raise StoreUnavailableError when the store can't answer now."""

    def close(self) -> None:
        """Release what the store holds."""


def content_etag(labels: Sequence[Label], templates: tuple[str, ...] | None) -> str:
    """Hash of a set's content, 32 hex characters."""
    content = json.dumps([templates, [[label.name, label.prompts] for label in labels]])
    return hashlib.sha256(content.encode()).hexdigest()[:32]
