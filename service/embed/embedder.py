"""Embeddings of candidate names, in memory and on disk: a name is encoded once per bundle and templates."""

from __future__ import annotations

import hashlib
import json
import sys
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import replace
from itertools import compress
from typing import NamedTuple, TypeVar

import numpy as np
import structlog
from cachetools import LRUCache
from numpy.typing import NDArray

from service.arrays import Array
from service.cancellation import raise_if_cancelled
from service.embed.embedding_store import EmbeddingStore
from service.embed.embeddings import LabelEmbeddings, Reuse, label_embeddings, row_width, rows_of
from service.encode.text import encode_labels
from service.errors import StoreUnavailableError
from service.labels.label import Candidates, Label
from service.registry import Bundle

Templates = tuple[str, ...] | None

# What a row holds, as it is kept on disk: changed whenever that changes.
_LAYOUT = 4
# Names in one step of an encoding. After each, its rows are kept, so that a large set that is interrupted
# goes on from there, and another request may have its turn.
_LABELS_PER_STEP = 256
# Memory of a name beside its numbers and prompts: itself, its key, its place in the cache.
_NAME_BYTES = 550
# Rows that are handled in one hold of the lock.
_ROWS_PER_HOLD = 2_000

_log = structlog.get_logger(__name__)

# Digests of the bundle and of the templates, then what is kept: a label, or a set by its name.
_Key = tuple[str, bytes, Label]
_SetKey = tuple[str, bytes, str]
_Item = TypeVar("_Item")


class _InSet(NamedTuple):
    """A row that is kept as part of a whole label set."""

    found: LabelEmbeddings
    place: int


class _KeptSet:
    """The embeddings of a label set in the version that was embedded last. Guarded by the embedder's lock.

    The rows of its names are kept as references to it, which stay behind when names leave the set or it makes
    room for another: so it is emptied then, lest one of them keeps all its arrays in memory.
    """

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        self.etag = ""
        self.found: LabelEmbeddings | None = None
        self.places: dict[str, int] = {}
        """places of the names; replaced as a whole, never changed."""
        self.n_bytes = 0
        """its memory."""

    def row(self, label: Label) -> _InSet | None:
        """The row of a label, if it has it."""
        place = self.places.get(label.name)
        if place is None or self.found is None or self.found.labels[place] != label:
            return None
        return _InSet(self.found, place)


class _KeptRow(NamedTuple):
    """A row, or the set that has it, and the memory that this takes."""

    row: Array | _KeptSet
    n_bytes: int


class _KeptSets(LRUCache[_SetKey, _KeptSet]):
    """Label sets, bounded by their memory; at least one is kept, however long it is."""

    def __init__(self, capacity: int) -> None:
        super().__init__(capacity, lambda one: min(one.n_bytes, capacity))

    def popitem(self) -> tuple[_SetKey, _KeptSet]:
        """Forget a set."""
        key, kept = super().popitem()
        kept.clear()
        return key, kept


class LabelEmbedder:
    """A thread-safe cache of label embeddings, least recently used out first.

    An embedding is a pure function of (bundle, templates, label), so nothing is ever invalidated: a new
    bundle has another digest, and rows of the old one age out. Label sets are kept whole too, so that one of
    any size costs nothing when it comes again, and once it was edited little more than its memory is copied.

    Args:
        capacity: Maximum memory in bytes: one half for single names, one for whole label sets, of which at
            least one is kept, however large it is.
        store: Where embeddings outlive this process; None for nowhere.
    """

    def __init__(self, capacity: int, store: EmbeddingStore | None = None) -> None:
        self._store = store
        # Guarded by the lock, reads too: they change the order of use.
        half = capacity // 2
        self._rows: LRUCache[_Key, _KeptRow] = LRUCache(half, lambda kept: min(kept.n_bytes, half))
        self._sets = _KeptSets(half)
        self._lock = threading.Lock()
        self._being_encoded: dict[_Key, Future[None]] = {}

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
        version = candidates.version
        if version is None:
            return Embedding(self, bundle, candidates, templates)
        with self._lock:
            kept = self._sets.get((bundle.digest, _digest(templates), version.name), _KeptSet())
            etag, known, places = kept.etag, kept.found, kept.places
        if known is None:
            return Embedding(self, bundle, candidates, templates)
        if etag == version.etag:
            return Embedding(self, bundle, candidates, templates, whole=replace(known, n_encoded=0))
        return Embedding(self, bundle, candidates, templates, Reuse(known, _find(candidates, known, places)))

    def known(self, keys: Sequence[_Key]) -> dict[_Key, Array | _InSet]:
        """Rows of those of the names that are in memory."""
        known: dict[_Key, Array | _InSet] = {}
        for some in _parts(keys, _ROWS_PER_HOLD):
            with self._lock:
                rows = {key: self._row(key) for key in some}
            known |= {key: row for key, row in rows.items() if row is not None}
        return known

    def _row(self, key: _Key) -> Array | _InSet | None:
        """A row that is in memory; call it with the lock held."""
        kept = self._rows.get(key)
        if kept is None:
            return None
        return kept.row.row(key[2]) if isinstance(kept.row, _KeptSet) else kept.row

    def keep_whole(self, key: _SetKey, etag: str, found: LabelEmbeddings, new: Sequence[_Key]) -> None:
        """Keep a label set in place of its version before, and let the rows of its names be parts of it.

        Args:
            key: Of the set.
            etag: Of the version.
            found: Its embeddings.
            new: Names that the version before did not have. The rows of the others are parts of it already.
        """
        places = {label.name: place for place, label in enumerate(found.labels)}
        n_bytes = found.n_bytes + len(found.labels) * _NAME_BYTES + _prompt_bytes(found.labels)
        with self._lock:
            kept = self._sets.pop(key, None) or _KeptSet()
            kept.etag, kept.found, kept.places, kept.n_bytes = etag, found, places, n_bytes
            self._sets[key] = kept
        for some in _parts(new, _ROWS_PER_HOLD):
            with self._lock:
                for name in some:
                    if name in self._rows:
                        self._rows[name] = _kept_row(name, kept)

    def encode(
        self, bundle: Bundle, templates: Templates, keys: Sequence[_Key]
    ) -> tuple[dict[_Key, Array], int]:
        """Rows of those of the names that no other thread is encoding, and how many of them were encoded.

        Requests with the same new names must not encode them once each.
        """
        ended = Future[None]()
        ended.set_running_or_notify_cancel()  # so that nobody who waits for it can cancel it for all others
        with self._lock:
            free = (key for key in keys if key not in self._being_encoded and self._row(key) is None)
            claimed = dict.fromkeys(free, ended)
            self._being_encoded |= claimed
        try:
            return self._make(bundle, templates, list(claimed)) if claimed else ({}, 0)
        finally:
            with self._lock:
                for key in claimed:
                    del self._being_encoded[key]
            ended.set_result(None)

    def encoded_elsewhere(self, key: _Key) -> Future[None] | None:
        """What ends when the thread that is encoding a name has done so, or failed; None: there is none."""
        with self._lock:
            return self._being_encoded.get(key)

    def _make(
        self, bundle: Bundle, templates: Templates, keys: Sequence[_Key]
    ) -> tuple[dict[_Key, Array], int]:
        """Rows of names that are not in memory: from the disk, else encoded; and how many were encoded."""
        has_store = self._store is not None
        places = {key: _place(bundle.digest, templates, key[2]) for key in keys} if has_store else {}
        kept = self._recall(bundle, places)
        new = [key for key in keys if key not in kept]
        made = self._encode(bundle, templates, new) if new else {}
        if made:
            self._remember({places[key]: row.tobytes() for key, row in made.items() if key in places})
        rows = kept | made
        with self._lock:
            for key, row in rows.items():
                self._rows[key] = _kept_row(key, row)
        return rows, len(new)

    def _encode(self, bundle: Bundle, templates: Templates, keys: Sequence[_Key]) -> dict[_Key, Array]:
        features = encode_labels(bundle.encoders, [label for _, _, label in keys], templates)
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
        candidates: The names.
        templates: Prompt templates instead of the bundle's own.
        reuse: Another version of the same label set.
        whole: The embeddings, if all of them are known.
    """

    def __init__(
        self,
        embedder: LabelEmbedder,
        bundle: Bundle,
        candidates: Candidates,
        templates: Templates,
        reuse: Reuse | None = None,
        whole: LabelEmbeddings | None = None,
    ) -> None:
        self._embedder = embedder
        self._bundle = bundle
        self._candidates = candidates
        self._templates = templates
        self._reuse = reuse
        self._whole = whole
        self._n_encoded = 0
        self._n_passed_over = 0
        self._made_with = (bundle.digest, _digest(templates))
        self._keys = [(*self._made_with, label) for label in self._new_labels()]
        # Kept here too: a list may be longer than the cache.
        self._rows = embedder.known(self._keys)
        self._missing = deque(key for key in self._keys if key not in self._rows)

    def _new_labels(self) -> Iterable[Label]:
        """The labels that have to be looked up one by one."""
        if self._whole is not None:
            return ()
        labels = self._candidates.labels
        return labels if self._reuse is None else compress(labels, self._reuse.is_new)

    @property
    def is_known(self) -> bool:
        """Whether no name is left to be encoded."""
        return not self._missing

    def step(self) -> Future[None] | None:
        """Encode some of the names that are missing; those that another request is encoding are passed over.

        Returns:
            Where no others are left, what ends when that request has encoded some of them: the next step can
            do nothing before. None: it can.

        Raises:
            WorkCancelled: The request was cancelled.
        """
        raise_if_cancelled("labels")
        some = [self._missing.popleft() for _ in range(min(_LABELS_PER_STEP, len(self._missing)))]
        made, n_encoded = self._embedder.encode(self._bundle, self._templates, some)
        found = made | self._embedder.known([key for key in some if key not in made])
        self._rows |= found
        self._n_encoded += n_encoded
        self._n_passed_over = 0 if found else self._n_passed_over + len(some)
        self._missing.extend(key for key in some if key not in found)
        if not self._missing or self._n_passed_over < len(self._missing):
            return None
        return self._embedder.encoded_elsewhere(self._missing[0])

    def finish(self) -> LabelEmbeddings:
        """Encode what is missing, and return the embeddings in the order of the names.

        Waits for other threads that are encoding some of them.

        Raises:
            WorkCancelled: The request was cancelled between two steps.
        """
        while self._missing:
            if (elsewhere := self.step()) is not None:
                elsewhere.result()
        if self._whole is None:
            bundle, labels, version = self._bundle, self._candidates.labels, self._candidates.version
            rows = (_array(self._rows[key]) for key in self._keys)
            self._whole = label_embeddings(bundle, labels, rows, self._n_encoded, self._reuse)
            if version is not None:
                key = (*self._made_with, version.name)
                self._embedder.keep_whole(key, version.etag, self._whole, self._keys)
            self._reuse = None  # the memory of the version before
        return self._whole


def _find(candidates: Candidates, known: LabelEmbeddings, places: Mapping[str, int]) -> NDArray[np.intp]:
    """Places of labels in another version of their set; -1: it is not there, or with other prompts."""

    def place(label: Label) -> int:
        found = places.get(label.name, -1)
        # Labels of versions that follow each other are mostly the same values, which is known faster.
        same = found >= 0 and ((there := known.labels[found]) is label or there == label)
        return found if same else -1

    return np.fromiter(map(place, candidates.labels), np.intp, len(candidates.labels))


def _parts(items: Sequence[_Item], size: int) -> Iterator[Sequence[_Item]]:
    """Parts of a long list: nobody waits for the lock as long as all of it takes."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _kept_row(key: _Key, row: Array | _KeptSet) -> _KeptRow:
    n_numbers = 0 if isinstance(row, _KeptSet) else row.nbytes
    return _KeptRow(row, _NAME_BYTES + _prompt_bytes([key[2]]) + n_numbers)


def _prompt_bytes(labels: Iterable[Label]) -> int:
    """Memory of their own prompts, which may be a hundred times that of a name."""
    return sum(sys.getsizeof(prompt) for label in labels for prompt in label.prompts)


def _digest(templates: Templates) -> bytes:
    """What stands for templates in keys: they may be long, and of another request they are other texts."""
    return b"" if templates is None else hashlib.sha256(json.dumps(templates).encode()).digest()


def _array(row: Array | _InSet) -> Array:
    return row.found.row(row.place) if isinstance(row, _InSet) else row


def _place(digest: str, templates: Templates, label: Label) -> bytes:
    """Where an embedding is kept on disk: a hash of all that it depends on."""
    return hashlib.sha256(
        json.dumps([_LAYOUT, digest, templates, label.name, label.prompts]).encode()
    ).digest()
