"""Embeddings of candidate names, kept in memory: a name is encoded once per bundle and templates."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from service.bundle.bundle import Bundle
from service.encode.features import TextFeatures
from service.encode.text import encode_labels
from service.labels.label import Label, label_key
from service.rank.ranker import ranker_of

Array = NDArray[np.float32]
Templates = tuple[str, ...] | None


@dataclass(frozen=True)
class LabelEmbeddings:
    """The candidates of one request, one row a name, in the order of the request."""

    labels: tuple[Label, ...]
    features: TextFeatures
    """of the two text encoders, for the scores of each track alone."""
    embedded: Array
    """float32 [n, width]: what the bundle's head keeps of them (AHSE: standardised embeddings z)."""
    seen: NDArray[np.bool_]
    """bool [n]: the head was trained on this class."""
    n_encoded: int
    """how many of them were not in the cache and had to be encoded."""


@dataclass(frozen=True)
class _Row:
    visual: Array
    audio: Array
    embedded: Array


_Key = tuple[str, Templates, Label]


class LabelEmbedder:
    """A thread-safe cache of label embeddings, least recently used out first.

    An embedding is a pure function of (bundle, templates, label), so nothing is ever invalidated: a new
    bundle has another digest, and rows of the old one age out.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._rows: OrderedDict[_Key, _Row] = OrderedDict()
        self._lock = threading.Lock()
        self._being_encoded: set[_Key] = set()
        self._encoded = threading.Condition(self._lock)

    def embed(self, bundle: Bundle, labels: Sequence[Label], templates: Templates = None) -> LabelEmbeddings:
        """Embeddings of the labels, encoding only those not yet known.

        Args:
            bundle: whose encoders and head are used.
            labels: at least one.
            templates: prompt templates for both modalities instead of the bundle's own.
        """
        keys = [(bundle.digest, templates, label) for label in labels]
        rows = self._known(keys)
        n_encoded = 0
        while missing := [key for key in keys if key not in rows]:
            with self._claim(missing) as claimed:
                rows |= self._encode(bundle, claimed) if claimed else {}
            n_encoded += len(claimed)
            rows |= self._known(missing)
        found = [rows[key] for key in keys]
        trained = {label_key(name) for name in bundle.manifest.seen_classes}
        return LabelEmbeddings(
            labels=tuple(labels),
            features=TextFeatures(
                visual=np.stack([row.visual for row in found]), audio=np.stack([row.audio for row in found])
            ),
            embedded=np.stack([row.embedded for row in found]),
            seen=np.array([label_key(label.name) in trained for label in labels]),
            n_encoded=n_encoded,
        )

    def _known(self, keys: Sequence[_Key]) -> dict[_Key, _Row]:
        with self._lock:
            known = {key: self._rows[key] for key in keys if key in self._rows}
            for key in known:
                self._rows.move_to_end(key)
        return known

    @contextmanager
    def _claim(self, keys: Sequence[_Key]) -> Iterator[list[_Key]]:
        """Those of the keys that this thread shall encode, while nobody else does.

        Requests with the same new names must not encode them once each. None is claimed when others have just
        encoded them; while others still encode all of them, this waits.
        """
        with self._encoded:
            self._encoded.wait_for(lambda: not self._being_encoded.issuperset(keys))
            claimed = [key for key in keys if key not in self._being_encoded and key not in self._rows]
            self._being_encoded.update(claimed)
        try:
            yield claimed
        finally:
            with self._encoded:
                self._being_encoded.difference_update(claimed)
                self._encoded.notify_all()

    def _encode(self, bundle: Bundle, keys: Sequence[_Key]) -> dict[_Key, _Row]:
        features = encode_labels(bundle, [label for _, _, label in keys], keys[0][1])
        embedded = ranker_of(bundle).embed_labels(features)
        rows = {
            # Copies: a view would keep the arrays of its whole batch in memory.
            key: _Row(visual.copy(), audio.copy(), row.copy())
            for key, visual, audio, row in zip(keys, features.visual, features.audio, embedded, strict=True)
        }
        with self._lock:
            self._rows |= rows
            while len(self._rows) > self._capacity:
                self._rows.popitem(last=False)
        return rows
