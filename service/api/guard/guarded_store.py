"""The label store as requests reach it: their key owns what they write, and each change is recorded."""

from __future__ import annotations

from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import dataclass

from service.access.audit import record_edit
from service.access.keys import ApiKey
from service.labels.label import Label
from service.labels.store import (
    NOBODY,
    Content,
    LabelSet,
    LabelSetSummary,
    LabelStore,
    Owner,
    Precondition,
)


@dataclass(frozen=True)
class Requester:
    """Who sent a request.

    Attributes:
        key: The key it was sent with; None: none was needed.
        client: Address of the client.
    """

    key: ApiKey | None = None
    client: str = "unknown"

    @property
    def owner(self) -> Owner:
        """Whose the label sets are that the request writes."""
        if self.key is None:
            return NOBODY
        return Owner(self.key.id, self.key.quotas.label_sets, self.key.quotas.labels)


_NOBODY_KNOWN = Requester()
current_requester: ContextVar[Requester] = ContextVar("current_requester", default=_NOBODY_KNOWN)
"""Set by `Access`; the threads that work for a request have its value."""


def record_edit_of_request(action: str, target: str) -> None:
    """Record a change that the current request has made; the log adds the id of the request."""
    requester = current_requester.get()
    key = requester.key
    record_edit(
        action,
        target,
        client=requester.client,
        key=None if key is None else key.id,
        key_name=None if key is None else key.name,
    )


class GuardedStore:
    """What requests may do with a LabelStore.

    Changes are recorded here, where they have been made: what becomes of the answer does not matter. One that
    comes again, and is not made again, is recorded once more, under the same id of a request.

    Args:
        store: The store that keeps the sets.
    """

    def __init__(self, store: LabelStore) -> None:
        self._store = store

    def get(self, name: str) -> LabelSet:
        """As in the store."""
        return self._store.get(name)

    def page(self, after: str, limit: int) -> list[LabelSetSummary]:
        """As in the store."""
        return self._store.page(after, limit)

    def put(self, name: str, content: Content, precondition: Precondition) -> tuple[LabelSetSummary, bool]:
        """Create or replace a set, which is then the requester's."""
        found = self._store.put(name, content, precondition, current_requester.get().owner)
        record_edit_of_request("put_label_set", f"label-sets/{name}")
        return found

    def add(self, name: str, labels: Sequence[Label], precondition: Precondition) -> LabelSetSummary:
        """Append labels to a set, which is then the requester's."""
        found = self._store.add(name, labels, precondition, current_requester.get().owner)
        record_edit_of_request("add_labels", f"label-sets/{name}")
        return found

    def remove(self, name: str, label: str, precondition: Precondition) -> LabelSetSummary:
        """Take one label out."""
        found = self._store.remove(name, label, precondition)
        record_edit_of_request("remove_label", f"label-sets/{name}/labels/{label}")
        return found

    def delete(self, name: str, precondition: Precondition) -> None:
        """Delete a set."""
        self._store.delete(name, precondition)
        record_edit_of_request("delete_label_set", f"label-sets/{name}")
