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
from service.labels.label import Candidates, Label, SetVersion, count_characters

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
class Content:
    """What a client says of a label set.

    Attributes:
        labels: In order; checked, also as a list (`check_labels`).
        templates: Prompt templates for both tracks; None for those of the bundle.
        guarantee: 0.5..0.99, of requests that have none of their own; None for none.
    """

    labels: tuple[Label, ...]
    templates: tuple[str, ...] | None = None
    guarantee: float | None = None

    @cached_property
    def etag(self) -> str:
        """Of a set that was put with this content: equal content has an equal etag."""
        labels = [[label.name, label.prompts] for label in self.labels]
        # Without a guarantee as it was before there were any, so that stored etags stay right.
        return _hash([self.templates, labels, *([] if self.guarantee is None else [self.guarantee])])

    @cached_property
    def n_characters(self) -> int:
        """As `LabelSetSummary` has them."""
        return count_characters(self.labels, self.templates)


@dataclass(frozen=True)
class Edit:
    """What adding or removing changes in a set: without what was there already, or had not to be removed.

    Attributes:
        added: New labels, in the order in which they follow those of the set.
        prompted: Labels of the set with other prompts than before.
        replaced: The same labels as they were before.
        removed: Labels of the set.
    """

    added: tuple[Label, ...] = ()
    prompted: tuple[Label, ...] = ()
    replaced: tuple[Label, ...] = ()
    removed: tuple[Label, ...] = ()

    def etag(self, before: str) -> str:
        """Of the edited set, at the cost of the edit alone.

        Args:
            before: Etag of the set, which stands for its content. So the new one stands for the new content,
                and the same edits of equal sets lead to equal etags.
        """
        if self == Edit():
            return before
        added, prompted = (
            [[label.name, label.prompts] for label in some] for some in (self.added, self.prompted)
        )
        # Begins with a text, which no content does: the etag of an edit is never that of another content.
        return _hash([before, added, prompted, [label.name for label in self.removed]])

    def applied(self, labels: tuple[Label, ...]) -> tuple[Label, ...]:
        """The labels of the edited set, from those before the edit."""
        for gone in self.removed:
            place = next(place for place, label in enumerate(labels) if label.name == gone.name)
            labels = labels[:place] + labels[place + 1 :]
        if self.prompted:
            prompted = {label.name: label for label in self.prompted}
            labels = tuple(prompted.get(label.name, label) for label in labels)
        return labels + self.added


@dataclass(frozen=True)
class LabelSetSummary:
    """A label set without its labels.

    Attributes:
        name: Its name in URLs.
        n_labels: How many labels it has.
        n_characters: Of its names, and of its prompts with the names filled in (`count_characters`).
        templates: Prompt templates for both tracks; None for those of the bundle.
        guarantee: 0.5..0.99, of requests that have none of their own; None for none.
        etag: Changes with the content, and stands for it: sets with equal etags are equal.
        created: When the set was created.
        updated: When its etag changed last.
    """

    name: str
    n_labels: int
    n_characters: int
    templates: tuple[str, ...] | None
    guarantee: float | None
    etag: str
    created: datetime
    updated: datetime


@dataclass(frozen=True)
class LabelSet(LabelSetSummary):
    """A named list of labels, kept across restarts.

    Attributes:
        labels: In the order they were added.
        is_stale: The store could not be asked: this is the set as it was read last.
    """

    labels: tuple[Label, ...]
    is_stale: bool = False

    @cached_property
    def candidates(self) -> Candidates:
        """Its labels as what a request ranks; always the same value, so sums over it are made once."""
        return Candidates(self.labels, SetVersion(self.name, self.etag))


@dataclass(frozen=True)
class Precondition:
    """A condition of a change (RFC 9110, If-Match and If-None-Match).

    Attributes:
        etags: The stored etag must be one of these; `*` matches any stored set. None: no condition.
        absent: No set must be stored under the name yet.
        request_id: Of the request that asks for the change; empty: none is known. The same change that comes
            again under it, since its answer was lost, is not made again (labels/repeats).
    """

    etags: tuple[str, ...] | None = None
    absent: bool = False
    request_id: str = ""


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

    A change that comes again under the id of its request, as `Precondition` has it, is answered as before and
    not made again, whatever was made of the set since. Only the templates in the answer to `add` and `remove`
    are those that the set has by then.

    The etag of a set is `Content.etag` when it was put, and goes on with `Edit.etag`.
    """

    def get(self, name: str) -> LabelSet:
        """The set of that name; a stale one where the store is away and has one that it has read before."""

    def page(self, after: str, limit: int) -> list[LabelSetSummary]:
        """Up to limit sets whose names sort behind `after`, in order of name; none: there are no more.

        Fewer where their templates are long, which a page holds for each set.
        """

    def put(
        self, name: str, content: Content, precondition: Precondition, owner: Owner = NOBODY
    ) -> tuple[LabelSetSummary, bool]:
        """Create or replace a set; the flag says that it is new.

        Raises DuplicateLabelsError and TooManyLabelsError, as `check_labels` says, and TooMuchTextError when
        the set would have more characters than it may.
        """

    def add(
        self, name: str, labels: Sequence[Label], precondition: Precondition, owner: Owner = NOBODY
    ) -> LabelSetSummary:
        """Append the labels that are new. A label that is there stays, and takes the prompts that are given.

        So the same labels again change nothing, and prompts are never taken away. Costs what is added,
        however large the set is.

        Raises DuplicateLabelsError when two of them are the same, and TooManyLabelsError or TooMuchTextError
        when the sum is more than a set may hold.
        """

    def remove(self, name: str, label: str, precondition: Precondition) -> LabelSetSummary:
        """Take one label out; raises UnknownLabelError when the set has no such label."""

    def delete(self, name: str, precondition: Precondition) -> None:
        """Delete a set."""

    def check(self) -> None:
        """Raise StoreUnavailableError when the service can't go on with this store now."""

    def close(self) -> None:
        """Release what the store holds."""


def _hash(content: object) -> str:
    """Of what JSON can say, 32 hex characters."""
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:32]
