"""The interface of a store that keeps API keys."""

from __future__ import annotations

import builtins
from typing import Protocol

from service.access.keys import ApiKey


class KeyStore(Protocol):
    """Keeps keys durably; no key can be read from it.

    Every method is thread-safe, and raises StoreUnavailableError when it can't answer.
    """

    def create(self, key: ApiKey) -> None:
        """Keep a new key."""

    def list(self) -> builtins.list[ApiKey]:
        """All keys in the order they were made."""

    def revoke(self, key_id: str) -> ApiKey:
        """Delete a key, and return what it was.

        Raises:
            UnknownKeyError: There is none of that id.
        """

    def close(self) -> None:
        """Release what the store holds."""


def unknown_key(key_id: str) -> str:
    """What to say of an id that no key has."""
    return f"there is no key {key_id[:40]!r}; `ahse keys list` shows the ids of all"
