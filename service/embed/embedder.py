"""Embeddings of candidate names, in memory and on disk: a name is encoded once per bundle and templates."""

from __future__ import annotations

import hashlib
import json
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple, TypeVar

import numpy as np
import structlog
from cachetools import LRUCache

from service.arrays import Array
from service.cancellation import raise_if_cancelled
from service.embed.embedding_store import EmbeddingStore
from service.embed.embeddings import LabelEmbeddings, label_embeddings, row_width, rows_of
from service.encode.text import encode_labels
from service.errors import StoreUnavailableError
from service.labels.label import Candidates, Label
from service.registry import Bundle

Templates = tuple[str, ...] | None

# What a row holds, as it is kept on disk: changed whenever that changes.
_LAYOUT = 3
# Names in one step of an encoding. After each, its rows are kept, so that a large set that is interrupted
# goes on from there, and another request may have its turn.
_LABELS_PER_STEP = 256
# Rows that are handled in one hold of the lock.
_ROWS_PER_HOLD = 2_000

_log = structlog.get_logger(__name__)

_Key = tuple[str, Templates, Label]
_ListKey = tuple[str, Templates, str]
_Item = TypeVar("_Item")


class _InList(NamedTuple):
    """A row that is kept as part of a whole list."""

    found: LabelEmbeddings
    place: int


class _Lists(LRUCache[_ListKey, LabelEmbeddings]):
    """Whole lists, bounded by the names in them; at least one is kept, however long it is."""

    def __init__(self, capacity: int, rows: LRUCache[_Key, Array | _InList]) -> None:
        super().__init__(capacity, lambda one: min(len(one.labels), capacity))
        self._rows = rows

    def popitem(self) -> tuple[_ListKey, LabelEmbeddings]:
        """Forget a list, and the rows that are parts of it: one would keep all its arrays in memory."""
        key, found = super().popitem()
        for name in _row_keys(key, found):
            row = self._rows.get(name)
            if isinstance(row, _InList) and row.found is found:
                del self._rows[name]
        return key, found


class LabelEmbedder:
    """A thread-safe cache of label embeddings, least recently used out first.

    An embedding is a pure function of (bundle, templates, label), so nothing is ever invalidated: a new
    bundle has another digest, and rows of the old one age out. Lists that have a cache key, as label sets
    have, are kept whole too, so that a list of any length costs nothing when it comes again.

    Args:
        capacity: Most names in memory; at least one list is kept, however long it is.
        store: Where embeddings outlive this process; None for nowhere.
    """

    def __init__(self, capacity: int, store: EmbeddingStore | None = None) -> None:
        self._store = store
        # Guarded by the lock, reads too: they change the order of use.
        self._rows: LRUCache[_Key, Array | _InList] = LRUCache(capacity)
        self._lists = _Lists(capacity, self._rows)
        self._lock = threading.Lock()
        self._being_encoded: set[_Key] = set()
        self._encoded = threading.Condition(self._lock)

    def embed(self, bundle: Bundle, candidates: Candidates, templates: Templates = None) -> LabelEmbeddings:
        """Embeddings of the candidates, encoding only those not yet known.

        Args:
            bundle: Whose encoders and head are used.
            candidates: The names.
            templates: Prompt templates for both modalities instead of the bundle's own.

        Raises:
            WorkCancelled: The request was cancelled between two steps.
        """
        return self.begin(bundle, candidates, templates).finish()

    def begin(self, bundle: Bundle, candidates: Candidates, templates: Templates = None) -> Embedding:
        """Look up what is known in memory; the value that is returned encodes the rest step by step."""
        key = None
        if candidates.cache_key is not None:
            key = (bundle.digest, templates, candidates.cache_key)
            with self._lock:
                known = self._lists.get(key)
            if known is not None:
                return Embedding(self, bundle, known.labels, templates, key, replace(known, n_encoded=0))
        return Embedding(self, bundle, candidates.labels, templates, key)

    def known(self, keys: Sequence[_Key]) -> dict[_Key, Array | _InList]:
        """Rows of those of the names that are in memory."""
        known: dict[_Key, Array | _InList] = {}
        for some in _parts(keys, _ROWS_PER_HOLD):
            with self._lock:
                known |= {key: self._rows[key] for key in some if key in self._rows}
        return known

    def keep_whole(self, key: _ListKey, found: LabelEmbeddings) -> None:
        """Keep a list, and let the rows of its names be parts of it, not copies."""
        with self._lock:
            self._lists[key] = found
        for some in _parts(list(enumerate(_row_keys(key, found))), _ROWS_PER_HOLD):
            with self._lock:
                if self._lists.get(key) is not found:  # it made room for another list meanwhile
                    return
                for index, name in some:
                    if name in self._rows:
                        self._rows[name] = _InList(found, index)

    def encode(self, bundle: Bundle, keys: Sequence[_Key], *, waits: bool) -> tuple[dict[_Key, Array], int]:
        """Rows of those of the names that no other thread is encoding, and how many of them were encoded.

        Requests with the same new names must not encode them once each.

        Args:
            bundle: Whose encoders and head are used.
            keys: The names.
            waits: While others encode all of the names, wait for one of them.
        """
        with self._encoded:
            claimed = [key for key in keys if key not in self._being_encoded and key not in self._rows]
            self._being_encoded.update(claimed)
            if not claimed and waits:
                self._encoded.wait_for(lambda: not self._being_encoded.issuperset(keys))
        try:
            return self._make(bundle, claimed) if claimed else ({}, 0)
        finally:
            with self._encoded:
                self._being_encoded.difference_update(claimed)
                self._encoded.notify_all()

    def _make(self, bundle: Bundle, keys: Sequence[_Key]) -> tuple[dict[_Key, Array], int]:
        """Rows of names that are not in memory: from the disk, else encoded; and how many were encoded."""
        places = {key: _place(key) for key in keys} if self._store is not None else {}
        kept = self._recall(bundle, places)
        new = [key for key in keys if key not in kept]
        made = self._encode(bundle, new) if new else {}
        if made:
            self._remember({places[key]: row.tobytes() for key, row in made.items() if key in places})
        rows = kept | made
        with self._lock:
            for key, row in rows.items():
                self._rows[key] = row
        return rows, len(new)

    def _encode(self, bundle: Bundle, keys: Sequence[_Key]) -> dict[_Key, Array]:
        features = encode_labels(bundle.encoders, [label for _, _, label in keys], keys[0][1])
        matrix = rows_of(features, bundle.head.embed_names(features))
        # Copies: a view would keep the arrays of its whole batch in memory.
        return {key: row.copy() for key, row in zip(keys, matrix, strict=True)}

    def _recall(self, bundle: Bundle, places: dict[_Key, bytes]) -> dict[_Key, Array]:
        if self._store is None:
            return {}
        try:
            found = self._store.get(list(places.values()))
        except StoreUnavailableError:
            _log.warning("embeddings_not_read", n_labels=len(places))
            return {}
        n_bytes = 4 * row_width(bundle)
        return {
            key: np.frombuffer(found[place], np.float32)
            for key, place in places.items()
            if len(found.get(place, b"")) == n_bytes
        }

    def _remember(self, rows: dict[bytes, bytes]) -> None:
        """Keep rows on disk. That is a convenience: a full disk must not cost the answer."""
        try:
            if self._store is not None:
                self._store.put(rows)
        except StoreUnavailableError:
            _log.warning("embeddings_not_kept", n_labels=len(rows))


class Embedding:
    """The embedding of one list of names, in steps, so that long lists of several requests take turns.

    Args:
        embedder: Whose cache is used.
        bundle: Whose encoders and head are used.
        labels: The names.
        templates: Prompt templates instead of the bundle's own.
        key: Under which the whole list is kept; None where it is not.
        known: The embeddings, if the whole list is known.
    """

    def __init__(
        self,
        embedder: LabelEmbedder,
        bundle: Bundle,
        labels: Sequence[Label],
        templates: Templates,
        key: _ListKey | None,
        known: LabelEmbeddings | None = None,
    ) -> None:
        self._embedder = embedder
        self._bundle = bundle
        self._labels = labels
        self._list_key = key
        self._whole = known
        self._n_encoded = 0
        self._n_passed_over = 0
        self._keys = [] if known is not None else [(bundle.digest, templates, label) for label in labels]
        # Kept here too: a list may be longer than the cache.
        self._rows = embedder.known(self._keys)
        self._missing = deque(key for key in self._keys if key not in self._rows)

    @property
    def is_known(self) -> bool:
        """Whether no name is left to be encoded."""
        return not self._missing

    def step(self) -> None:
        """Encode some of the names that are missing, or wait until another request has encoded them.

        Raises:
            WorkCancelled: The request was cancelled.
        """
        raise_if_cancelled("labels")
        some = [self._missing.popleft() for _ in range(min(_LABELS_PER_STEP, len(self._missing)))]
        # Names that others are encoding are passed over, until no others are left.
        waits = self._n_passed_over >= len(self._missing)
        made, n_encoded = self._embedder.encode(self._bundle, some, waits=waits)
        found = made | self._embedder.known([key for key in some if key not in made])
        self._rows |= found
        self._n_encoded += n_encoded
        self._n_passed_over = 0 if found else self._n_passed_over + len(some)
        self._missing.extend(key for key in some if key not in found)

    def finish(self) -> LabelEmbeddings:
        """Encode what is missing, and return the embeddings in the order of the names."""
        while self._missing:
            self.step()
        if self._whole is None:
            rows = (_row(self._rows[key]) for key in self._keys)
            self._whole = label_embeddings(self._bundle, self._labels, rows, self._n_encoded)
            if self._list_key is not None:
                self._embedder.keep_whole(self._list_key, self._whole)
        return self._whole


def _parts(items: Sequence[_Item], size: int) -> Iterator[Sequence[_Item]]:
    """Parts of a long list: nobody waits for the lock as long as all of it takes."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _row_keys(key: _ListKey, found: LabelEmbeddings) -> Iterator[_Key]:
    """The keys of a list's names, one by one."""
    digest, templates, _ = key
    return ((digest, templates, label) for label in found.labels)


def _row(entry: Array | _InList) -> Array:
    return entry.found.row(entry.place) if isinstance(entry, _InList) else entry


def _place(key: _Key) -> bytes:
    """Where an embedding is kept on disk: a hash of all that it depends on."""
    digest, templates, label = key
    return hashlib.sha256(
        json.dumps([_LAYOUT, digest, templates, label.name, label.prompts]).encode()
    ).digest()
