"""The steps of every change of a label set, in their order, for each store over its own rows."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Generic, Protocol, TypeVar

from service.errors import UnknownLabelError
from service.labels.changes import (
    RecentSets,
    check_precondition,
    edited,
    found_set,
    put_over,
    with_labels,
)
from service.labels.label import Label, check_characters, check_count, check_labels
from service.labels.repeats import Answer, Change, change_of
from service.labels.store import NOBODY, Content, Edit, LabelSetSummary, Owner, Precondition

Connection = TypeVar("Connection")
Connection_contra = TypeVar("Connection_contra", contravariant=True)
Value = TypeVar("Value")


class Rows(Protocol[Connection_contra]):
    """The rows of a store, read and written inside the transaction of a connection: a module is one."""

    def lock_set(self, connection: Connection_contra, name: str, owner: Owner) -> None:
        """Keep other changes of a set, and of what its owner owns, away until the transaction ends."""

    def find_answer(self, connection: Connection_contra, name: str, change: Change) -> Answer | None:
        """How a change of a set was answered before; None: it was not made, or long ago."""

    def keep_answer(self, connection: Connection_contra, name: str, change: Change, answer: Answer) -> None:
        """Keep how a change was answered, and forget those that are too old."""

    def find_set(self, connection: Connection_contra, name: str) -> LabelSetSummary | None:
        """A set but for its labels."""

    def check_owner(self, connection: Connection_contra, owner: Owner, name: str, n_labels: int) -> None:
        """Check what an owner would own with so many labels in this set; raises QuotaExceededError."""

    def write_set(self, connection: Connection_contra, summary: LabelSetSummary, owner: Owner) -> None:
        """Write a set but for its labels."""

    def update_set(
        self, connection: Connection_contra, summary: LabelSetSummary, owner: Owner | None = None
    ) -> None:
        """Write what an edit changes of a set but for its labels; without an owner it keeps its own."""

    def replace_labels(self, connection: Connection_contra, name: str, labels: Sequence[Label]) -> None:
        """Write all labels of a set."""

    def merge_labels(self, connection: Connection_contra, name: str, labels: Sequence[Label]) -> Edit:
        """Append the labels that are new, and give the others the prompts that come with them."""

    def remove_label(self, connection: Connection_contra, name: str, label: str) -> Label | None:
        """Take out a label whose name is the same; None: there is none."""

    def delete_set(self, connection: Connection_contra, name: str) -> None:
        """Delete a set with its labels."""


class EditableLabelSets(ABC, Generic[Connection]):
    """The part of a LabelStore that changes sets; see the interface for its methods.

    Args:
        rows: Of the store.
        max_labels: Most labels in a set.
        max_characters: Most characters in a set, as `count_characters` counts them.
    """

    def __init__(self, rows: Rows[Connection], max_labels: int, max_characters: int) -> None:
        self._rows = rows
        self._max_labels, self._max_characters = max_labels, max_characters
        self._recent = RecentSets()

    @abstractmethod
    def _write(self, work: Callable[[Connection], Value]) -> Value:
        """Do work in one transaction: all of it is kept, or after any error none of it."""

    def put(
        self, name: str, content: Content, precondition: Precondition, owner: Owner = NOBODY
    ) -> tuple[LabelSetSummary, bool]:
        """Create or replace a set; the flag says that it is new."""
        # All that takes long before others have to wait.
        check_labels(content.labels, self._max_labels, may_be_empty=True)
        check_characters(content.n_characters, self._max_characters)
        change, rows = change_of(precondition, owner, "put", content.etag), self._rows

        def work(connection: Connection) -> tuple[Answer, bool]:
            rows.lock_set(connection, name, owner)
            if known := rows.find_answer(connection, name, change):
                return known, False
            before = rows.find_set(connection, name)
            check_precondition(precondition, name, before)
            rows.check_owner(connection, owner, name, len(content.labels))
            after = put_over(before, name, content)
            rows.write_set(connection, after, owner)
            if before is None or before.etag != after.etag:
                rows.replace_labels(connection, name, content.labels)
            answer = Answer(after, is_new=before is None)
            rows.keep_answer(connection, name, change, answer)
            return answer, True

        answer, is_made = self._write(work)
        after = replace(found_set(name, answer.summary), templates=content.templates)
        if is_made:
            self._recent.keep(with_labels(after, content.labels))
        return after, answer.is_new

    def add(
        self, name: str, labels: Sequence[Label], precondition: Precondition, owner: Owner = NOBODY
    ) -> LabelSetSummary:
        """Append the labels that are new; the sum is checked like a new set."""
        check_labels(labels, self._max_labels, may_be_empty=True)
        sent = [[label.name, label.prompts] for label in labels]
        change, rows = change_of(precondition, owner, "add", sent), self._rows

        def add_to(connection: Connection, before: LabelSetSummary) -> tuple[LabelSetSummary, Edit]:
            edit = rows.merge_labels(connection, name, labels)
            after = edited(before, edit)
            check_count(after.n_labels, self._max_labels)
            if after.n_characters > before.n_characters:  # an older set may have more, and become smaller
                check_characters(after.n_characters, self._max_characters)
            rows.check_owner(connection, owner, name, after.n_labels)
            rows.update_set(connection, after, owner)
            return after, edit

        return self._edit(name, precondition, change, add_to, owner)

    def remove(self, name: str, label: str, precondition: Precondition) -> LabelSetSummary:
        """Take one label out."""
        change, rows = change_of(precondition, NOBODY, "remove", label), self._rows

        def remove_from(connection: Connection, before: LabelSetSummary) -> tuple[LabelSetSummary, Edit]:
            gone = rows.remove_label(connection, name, label)
            if gone is None:
                raise UnknownLabelError(f"label set {name!r} has no label {label[:80]!r}")
            edit = Edit(removed=(gone,))
            after = edited(before, edit)
            rows.update_set(connection, after)
            return after, edit

        return self._edit(name, precondition, change, remove_from, NOBODY)

    def _edit(
        self,
        name: str,
        precondition: Precondition,
        change: Change,
        make: Callable[[Connection, LabelSetSummary], tuple[LabelSetSummary, Edit]],
        owner: Owner,
    ) -> LabelSetSummary:
        rows = self._rows

        def work(connection: Connection) -> tuple[LabelSetSummary, LabelSetSummary, Edit]:
            rows.lock_set(connection, name, owner)
            if known := rows.find_answer(connection, name, change):
                answered = found_set(name, known.summary)
                return answered, answered, Edit()
            before = found_set(name, rows.find_set(connection, name))
            check_precondition(precondition, name, before)
            after, edit = make(connection, before)
            rows.keep_answer(connection, name, change, Answer(after))
            return before, after, edit

        before, after, edit = self._write(work)
        self._recent.edit(before, after, edit)
        return after

    def delete(self, name: str, precondition: Precondition) -> None:
        """Delete a set."""
        change, rows = change_of(precondition, NOBODY, "delete", None), self._rows

        def work(connection: Connection) -> None:
            rows.lock_set(connection, name, NOBODY)
            if rows.find_answer(connection, name, change):
                return
            check_precondition(precondition, name, found_set(name, rows.find_set(connection, name)))
            rows.delete_set(connection, name)
            rows.keep_answer(connection, name, change, Answer(None))

        self._write(work)
        self._recent.forget(name)
