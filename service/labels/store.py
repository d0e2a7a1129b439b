"""Label sets: what a store keeps and promises. SQLite is one store; others can stand behind the same door."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from service.labels.label import Label


@dataclass(frozen=True)
class LabelSet:
    """A named list of candidates, kept across restarts."""

    name: str
    labels: tuple[Label, ...]
    templates: tuple[str, ...] | None
    """prompt templates for both modalities; None leaves the bundle's own."""
    etag: str
    """hash of the content: equal content has an equal etag."""
    created: datetime
    updated: datetime


@dataclass(frozen=True)
class LabelSetSummary:
    """A label set without its labels, for listings."""

    name: str
    n_labels: int
    etag: str
    updated: datetime


@dataclass(frozen=True)
class Precondition:
    """What the client believes is stored (RFC 9110, If-Match and If-None-Match)."""

    etags: tuple[str, ...] | None = None
    """the stored etag must be one of these; `*` stands for any stored set. None: no condition."""
    absent: bool = False
    """nothing must be stored under the name yet."""


class LabelStore(Protocol):
    """Keeps label sets durably. Every method is safe from several threads; a write is whole or not at all.

    Writes raise PreconditionFailedError when the precondition does not hold, and all methods but `put` and
    `page` raise UnknownLabelSetError when no set has the name.
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
    ) -> tuple[LabelSet, bool]:
        """Create or replace a set; the flag says that it is new."""

    def add(self, name: str, labels: Sequence[Label], precondition: Precondition) -> LabelSet:
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
