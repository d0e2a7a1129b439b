"""The interface of a store that keeps embeddings of names: what was encoded once is not encoded again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol


class EmbeddingStore(Protocol):
    """Keeps bytes by key. It may forget.

    Every method is thread-safe, and raises StoreUnavailableError when it can't answer.
    """

    def get(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """Those of the keys that are kept."""

    def put(self, embeddings: Mapping[bytes, bytes]) -> None:
        """Keep these, but for keys that are kept already; the oldest make room."""

    def close(self) -> None:
        """Release what the store holds."""
