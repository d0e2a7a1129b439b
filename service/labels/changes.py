"""What every store of label sets does alike: conditions and quotas of changes; sets kept as read."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from dataclasses import fields, replace
from datetime import UTC, datetime
from typing import NamedTuple

from cachetools import LRUCache

from service.errors import PreconditionFailedError, QuotaExceededError, UnknownLabelSetError
from service.labels.label import Label, count_characters
from service.labels.store import Content, Edit, LabelSet, LabelSetSummary, Owner, Precondition

# Bytes of sets that are kept as read, so that a large one is not read again for every clip.
_RECENT_BYTES = 256 * 2**20
# What a label takes beside its texts, what a text takes beside its characters, and a character at most.
_LABEL_BYTES, _TEXT_BYTES, _CHARACTER_BYTES = 256, 60, 4
MAX_PAGE_TEMPLATES = 4 * 2**20
"""Characters of all templates of a page, as JSON, which is ASCII: more than one set has."""


class _Kept(NamedTuple):
    """A set, and what it takes in memory, roughly: counted once, and then by what edits change."""

    found: LabelSet
    n_bytes: int


class RecentSets:
    """Label sets as they were read last, the least recently used out first. Thread-safe."""

    def __init__(self) -> None:
        # Guarded by the lock, reads too: they change the order of use. The largest sets are kept alone.
        self._sets: LRUCache[str, _Kept] = LRUCache(
            _RECENT_BYTES, lambda kept: min(kept.n_bytes, _RECENT_BYTES)
        )
        self._lock = threading.Lock()

    def get(self, name: str) -> LabelSet | None:
        """The set of that name, if it is kept."""
        kept = self._get(name)
        return None if kept is None else kept.found

    def keep(self, found: LabelSet) -> None:
        """Keep a set in place of the one of its name."""
        own = _LABEL_BYTES + sum(map(_text_bytes, found.templates or ()))
        self._keep(_Kept(found, own + _bytes_of(found.labels)))

    def forget(self, name: str) -> None:
        """Keep no set of that name."""
        with self._lock:
            self._sets.pop(name, None)

    def edit(self, before: LabelSetSummary, after: LabelSetSummary, edit: Edit) -> None:
        """Edit what is kept, so that the next request does not read the whole set again."""
        kept = self._get(before.name)
        if kept is None or edit == Edit() or version_of(kept.found) != version_of(before):
            return
        gained, lost = _bytes_of(edit.added + edit.prompted), _bytes_of(edit.removed + edit.replaced)
        found = with_labels(after, edit.applied(kept.found.labels))
        self._keep(_Kept(found, kept.n_bytes + gained - lost))

    def _get(self, name: str) -> _Kept | None:
        with self._lock:
            return self._sets.get(name)

    def _keep(self, kept: _Kept) -> None:
        with self._lock:
            self._sets[kept.found.name] = kept


def _bytes_of(labels: Sequence[Label]) -> int:
    names = _CHARACTER_BYTES * sum(len(label.name) for label in labels)
    prompts = sum(_text_bytes(prompt) for label in labels if label.prompts for prompt in label.prompts)
    return _LABEL_BYTES * len(labels) + names + prompts


def _text_bytes(text: str) -> int:
    return _TEXT_BYTES + _CHARACTER_BYTES * len(text)


def version_of(summary: LabelSetSummary) -> tuple[str, datetime, datetime]:
    """What tells versions of a set apart: the etag alone is also that of an equal set before."""
    return summary.etag, summary.created, summary.updated


def with_labels(summary: LabelSetSummary, labels: tuple[Label, ...]) -> LabelSet:
    """The whole set."""
    facts = {field.name: getattr(summary, field.name) for field in fields(LabelSetSummary)}
    return LabelSet(**facts, labels=labels)


def put_over(before: LabelSetSummary | None, name: str, content: Content) -> LabelSetSummary:
    """A set after it was put; the same content again is no update."""
    now = datetime.now(UTC)
    after = LabelSetSummary(
        name=name,
        n_labels=len(content.labels),
        n_characters=content.n_characters,
        templates=content.templates,
        guarantee=content.guarantee,
        etag=content.etag,
        created=now if before is None else before.created,
        updated=now,
    )
    if before is not None and before.etag == after.etag:
        return replace(after, updated=before.updated)
    return after


def edited(before: LabelSetSummary, edit: Edit) -> LabelSetSummary:
    """A set after an edit."""
    if edit == Edit():
        return before
    gained = count_characters(edit.added + edit.prompted, before.templates)
    lost = count_characters(edit.removed + edit.replaced, before.templates)
    return replace(
        before,
        n_labels=before.n_labels + len(edit.added) - len(edit.removed),
        n_characters=before.n_characters + gained - lost,
        etag=edit.etag(before.etag),
        updated=datetime.now(UTC),
    )


def read_templates(stored: str | None) -> tuple[str, ...] | None:
    """Templates of a set, which are stored as JSON."""
    return None if stored is None else tuple(json.loads(stored))


def found_set(name: str, found: LabelSetSummary | None) -> LabelSetSummary:
    """A set that must be there.

    Raises:
        UnknownLabelSetError: It is not.
    """
    if found is None:
        raise UnknownLabelSetError(
            f"there is no label set {name!r}; create it with PUT /v1/label-sets/{name}"
        )
    return found


def check_precondition(precondition: Precondition, name: str, stored: LabelSetSummary | None) -> None:
    """Check the condition of a change.

    Raises:
        PreconditionFailedError: It does not hold.
    """
    if precondition.absent and stored is not None:
        raise PreconditionFailedError(f"label set {name!r} exists already (If-None-Match: *)")
    wanted = precondition.etags
    if wanted is not None and stored is None:
        raise PreconditionFailedError(
            f"there is no label set {name!r} to match; leave If-Match out to make it"
        )
    if wanted is not None and stored is not None and not {"*", stored.etag} & set(wanted):
        raise PreconditionFailedError(
            f"label set {name!r} has changed since you read it; read it again and repeat the change"
        )


def check_quotas(owner: Owner, n_others: int, n_their_labels: int, n_labels: int) -> None:
    """Check what an owner would own with one more set.

    Args:
        owner: Whose set it would be.
        n_others: Number of its other sets.
        n_their_labels: Number of labels in them together.
        n_labels: Number of labels of the set.

    Raises:
        QuotaExceededError: It would be more than it may own.
    """
    if owner.max_label_sets is not None and n_others + 1 > owner.max_label_sets:
        raise QuotaExceededError(
            f"this key may own {owner.max_label_sets} label sets, and owns {n_others} others; delete one"
        )
    if owner.max_labels is not None and n_their_labels + n_labels > owner.max_labels:
        raise QuotaExceededError(
            f"this key may own {owner.max_labels} labels in all its sets; {n_their_labels} in others and "
            f"{n_labels} here would be more"
        )
