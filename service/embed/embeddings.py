"""What is known of the names of a request without any clip: arrays, laid out as ranking reads them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from itertools import islice, pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.arrays import Array
from service.encode.features import TextFeatures
from service.labels.label import Label, label_key
from service.registry import Bundle

# Rows that are put in place at once.
_ROWS_AT_ONCE = 1024


@dataclass(frozen=True)
class LabelEmbeddings:
    """The candidates of one request, one row a label, in the order of the request.

    Attributes:
        labels: The candidates.
        features: Of the text encoders, for the scores of each track alone.
        embedded: What the head keeps of them: a dataclass of arrays [n, ...] (AHSE: AhseNames).
        seen: bool [n], whether the head was trained on the class.
        n_encoded: How many of them were not cached and had to be encoded.
    """

    labels: tuple[Label, ...]
    features: TextFeatures
    embedded: Any
    seen: NDArray[np.bool_]
    n_encoded: int

    @property
    def n_bytes(self) -> int:
        """Memory of the arrays."""
        return self.seen.nbytes + sum(array.nbytes for array in _arrays(self.features, self.embedded))

    def part(self, rows: slice) -> LabelEmbeddings:
        """Some of the names, without a copy of their arrays."""
        return replace(
            self,
            labels=self.labels[rows],
            features=_part(self.features, rows),
            embedded=_part(self.embedded, rows),
            seen=self.seen[rows],
        )

    def row(self, index: int) -> Array:
        """One name as `rows_of` gives it."""
        parts = [array[index : index + 1].ravel() for array in _arrays(self.features, self.embedded)]
        return np.concatenate(parts, dtype=np.float32)


def rows_of(features: TextFeatures, embedded: Any) -> Array:
    """All that is known of each name in one row, as it is cached: float32 [n, width]."""
    arrays = _arrays(features, embedded)
    return np.concatenate([a.reshape(len(a), -1) for a in arrays], axis=1, dtype=np.float32)


def row_width(bundle: Bundle) -> int:
    """Numbers in a row of the bundle."""
    return sum(array.size for array in _arrays(*_empty(bundle, 1)))


@dataclass(frozen=True)
class Reuse:
    """Embeddings of which those of another list are made in part.

    Attributes:
        known: The embeddings.
        places: int [n]: for each name of the other list its row in `known`; -1: it has none there.
    """

    known: LabelEmbeddings
    places: NDArray[np.intp]

    @property
    def is_new(self) -> NDArray[np.bool_]:
        """Names of the other list that have no row there: bool [n]."""
        return self.places < 0

    def runs(self) -> Iterator[tuple[slice, slice]]:
        """Rows of the other list, and the same in `known`: few and long runs where few names differ."""
        here = np.flatnonzero(~self.is_new)
        there = self.places[here]
        starts = np.flatnonzero((np.diff(here, prepend=-2) != 1) | (np.diff(there, prepend=-2) != 1))
        for start, end in pairwise([*starts.tolist(), len(here)]):
            n = end - start
            yield slice(here[start], here[start] + n), slice(there[start], there[start] + n)


def label_embeddings(
    bundle: Bundle,
    labels: Sequence[Label],
    rows: Iterable[Array],
    n_encoded: int = 0,
    reuse: Reuse | None = None,
) -> LabelEmbeddings:
    """The value that the rows of names make, at least one.

    Text features are read from end to end for every clip, so those of each track have memory of their own.
    What the head keeps lies as the head wants it: ranking 100,000 names takes a quarter less than on one
    matrix of all rows.

    Args:
        bundle: Whose encoders and head made the rows.
        labels: The names.
        rows: Of the names that are not reused, in their order.
        n_encoded: How many names were encoded for it.
        reuse: Where the rest of the rows are.
    """
    features, embedded = _empty(bundle, len(labels))
    seen = np.empty(len(labels), np.bool_)
    arrays, new = [*_arrays(features, embedded), seen], np.arange(len(labels))
    if reuse is not None:
        new = np.flatnonzero(reuse.is_new)
        known = [*_arrays(reuse.known.features, reuse.known.embedded), reuse.known.seen]
        for here, there in reuse.runs():
            for array, source in zip(arrays, known, strict=True):
                array[here] = source[there]
    remaining, n_filled = iter(rows), 0
    while some := list(islice(remaining, _ROWS_AT_ONCE)):
        places = new[n_filled : n_filled + len(some)]
        matrix, column = np.stack(some), 0
        for array in arrays[:-1]:
            width = array[0].size
            array[places] = matrix[:, column : column + width].reshape(-1, *array.shape[1:])
            column += width
        n_filled += len(some)
    trained = {label_key(name) for name in bundle.manifest.seen_classes}
    seen[new] = [bool(trained) and label_key(labels[place].name) in trained for place in new.tolist()]
    return LabelEmbeddings(tuple(labels), features, embedded, seen, n_encoded)


def _empty(bundle: Bundle, n: int) -> tuple[TextFeatures, Any]:
    manifest = bundle.manifest
    features = TextFeatures.empty(
        n, manifest.visual.dim, manifest.audio.dim, with_nearness=manifest.known_names is not None
    )
    return features, bundle.head.empty_names(n)


def _part(value: Any, rows: slice) -> Any:
    """A dataclass of arrays with some of their rows."""
    arrays = {field.name: getattr(value, field.name) for field in fields(value)}
    return replace(value, **{name: None if array is None else array[rows] for name, array in arrays.items()})


def _arrays(*values: Any) -> list[Array]:
    """The arrays of dataclasses, in the order of their fields, which is that of a row."""
    found = (getattr(value, field.name) for value in values for field in fields(value))
    return [array for array in found if array is not None]
