"""What is known of the names of a request without any clip: arrays, laid out as ranking reads them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from service.bundle.bundle import Bundle
from service.encode.features import TextFeatures
from service.labels.label import Label, label_key

Array = NDArray[np.float32]


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
    """how many of them were not known and had to be encoded."""

    def row(self, index: int) -> Array:
        """One name as `rows_of` gives it."""
        nearness = self.features.nearness
        return np.concatenate(
            (
                self.features.visual[index],
                self.features.audio[index],
                self.embedded[index],
                () if nearness is None else nearness[index : index + 1],
            ),
            dtype=np.float32,
        )


def rows_of(features: TextFeatures, embedded: Array) -> Array:
    """All that is known of each name in one row: float32 [n, visual dim + audio dim + width].

    One column more, the last, where the bundle says how near names are to what it knows.
    """
    parts = [features.visual, features.audio, embedded]
    if features.nearness is not None:
        parts.append(features.nearness[:, None])
    return np.concatenate(parts, axis=1, dtype=np.float32)


def label_embeddings(
    bundle: Bundle, labels: Sequence[Label], rows: Iterable[Array], n_encoded: int = 0
) -> LabelEmbeddings:
    """The value that the rows of names make, at least one.

    Text features are read from end to end for every clip, so those of each track have memory of their own;
    what the head keeps is read column by column, and lies so. Ranking 100,000 names takes a quarter less than
    on one matrix of all rows.
    """
    n, rows = len(labels), iter(rows)
    first = next(rows)
    to_visual = bundle.manifest.visual.dim
    to_audio = to_visual + bundle.manifest.audio.dim
    knows = bundle.manifest.known_names is not None
    to_embedded = len(first) - knows
    visual = np.empty((n, to_visual), np.float32)
    audio = np.empty((n, to_audio - to_visual), np.float32)
    embedded = np.empty((to_embedded - to_audio, n), np.float32).T
    nearness = np.empty(n, np.float32) if knows else None
    for index, row in enumerate((first, *rows)):
        visual[index], audio[index], embedded[index] = (
            row[:to_visual],
            row[to_visual:to_audio],
            row[to_audio:to_embedded],
        )
        if nearness is not None:
            nearness[index] = row[-1]
    trained = {label_key(name) for name in bundle.manifest.seen_classes}
    seen = np.array([bool(trained) and label_key(label.name) in trained for label in labels])
    return LabelEmbeddings(tuple(labels), TextFeatures(visual, audio, nearness), embedded, seen, n_encoded)
