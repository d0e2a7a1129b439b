"""The label sets that are kept here or in a shared store, with those methods of the client that are used."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from service import option_texts as texts
from service.client import Label, LabelSet, LabelSetSummary
from service.errors import InvalidOptionError, UnknownLabelSetError
from service.labels.label import check_templates, make_label
from service.labels.store import Content, LabelStore, Precondition, check_set_name
from service.stores import Stores

if TYPE_CHECKING:
    from service.labels.label import Label as StoredLabel
    from service.labels.store import LabelSet as StoredSet
    from service.labels.store import LabelSetSummary as StoredSummary
    from service.settings import Settings

_PAGE = 1000


class LocalLabelSets:
    """The label sets of a store. A service that runs on it sees changes at its next request.

    Args:
        settings: Where the store is, and the maximum number of labels in a set.
    """

    def __init__(self, settings: Settings) -> None:
        self._stores = Stores(settings)
        self._path = settings.data_dir / "labels.sqlite3"
        self._open: LabelStore | None = None

    def stored(self, name: str) -> StoredSet:
        """One label set as the service has it.

        Raises:
            UnknownLabelSetError: There is none of that name.
        """
        with self._having(name) as store:
            return store.get(name)

    def label_set(self, name: str) -> LabelSet:
        """One label set."""
        stored = self.stored(name)
        labels = tuple(Label(one.name, one.prompts) for one in stored.labels)
        return LabelSet(**_facts(stored), labels=labels)

    def label_sets(self) -> Iterator[LabelSetSummary]:
        """All of them in order of name."""
        after = ""
        while page := self._store.page(after, _PAGE) if self._is_there else []:
            yield from map(_summary, page)
            after = page[-1].name

    def put_label_set(
        self,
        name: str,
        labels: Sequence[str | Label],
        *,
        templates: Sequence[str] | None = None,
        guarantee: float | None = None,
        if_match: str | None = None,
        warm: bool = False,
    ) -> LabelSetSummary:
        """Create a label set, or replace all of one."""
        _refuse_to_warm(warm)
        if guarantee is not None and not texts.MIN_GUARANTEE <= guarantee <= texts.MAX_GUARANTEE:
            raise InvalidOptionError(f"guarantee must be {texts.GUARANTEE.takes}.")
        checked = None if templates is None else check_templates(templates)
        content = Content(tuple(_labels(labels)), checked, guarantee)
        stored, _ = self._store.put(check_set_name(name), content, _condition(if_match))
        return _summary(stored)

    def add_labels(
        self,
        name: str,
        labels: Sequence[str | Label],
        *,
        if_match: str | None = None,
        warm: bool = False,
    ) -> LabelSetSummary:
        """Add labels to a set."""
        _refuse_to_warm(warm)
        with self._having(name) as store:
            return _summary(store.add(name, _labels(labels), _condition(if_match)))

    def remove_label(self, name: str, label: str, *, if_match: str | None = None) -> LabelSetSummary:
        """Take one label out of a set."""
        with self._having(name) as store:
            return _summary(store.remove(name, label, _condition(if_match)))

    def delete_label_set(self, name: str, *, if_match: str | None = None) -> None:
        """Delete a set."""
        with self._having(name) as store:
            store.delete(name, _condition(if_match))

    def close(self) -> None:
        """Close the store."""
        if self._open is not None:
            self._open.close()
        self._stores.close()

    @contextmanager
    def _having(self, name: str) -> Iterator[LabelStore]:
        """The store, for what needs a set of that name; it says how to make one here if there is none."""
        try:
            if not self._is_there:
                raise UnknownLabelSetError(name)
            check_set_name(name)
            yield self._store
        except UnknownLabelSetError as error:
            raise UnknownLabelSetError(
                f"there is no label set {name[:80]!r} here; make it with: ahse labels put {name[:80]}"
            ) from error

    @property
    def _is_there(self) -> bool:
        """Whether anything can be stored already. Where nothing is, no directory is made."""
        return self._stores.is_shared or self._path.exists()

    @property
    def _store(self) -> LabelStore:
        if self._open is None:
            self._open = self._stores.labels()
        return self._open


def _labels(given: Sequence[str | Label]) -> list[StoredLabel]:
    return [make_label(one) if isinstance(one, str) else make_label(one.name, one.prompts) for one in given]


def _condition(if_match: str | None) -> Precondition:
    return Precondition(etags=None if if_match is None else (if_match,))


def _refuse_to_warm(warm: bool) -> None:
    if warm:
        raise InvalidOptionError("--warm is for a running service; give its --url too")


def _facts(stored: StoredSummary) -> dict[str, Any]:
    return {one.name: getattr(stored, one.name) for one in fields(LabelSetSummary)}


def _summary(stored: StoredSummary) -> LabelSetSummary:
    return LabelSetSummary(**_facts(stored))
