"""The tokenizer of a text encoder: texts to token ids of the length that the graph takes."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from service.bundle.manifest import TextEncoderSpec
from service.errors import BundleInvalidError

# Padding, in tokens, that a batch may have on a CPU, where a run costs as much as 4 tokens beside its rows.
_MOST_PADDING = 8


class Tokens:
    """Turns texts into token ids, truncated to the context length.

    They are padded to the context length too, or to the longest text where the graph takes shorter rows.

    Args:
        directory: The directory of the bundle.
        spec: The text encoder.

    Raises:
        BundleInvalidError: The tokenizer can't be read or has another vocabulary size.
    """

    def __init__(self, directory: Path, spec: TextEncoderSpec) -> None:
        try:
            self._tokenizer = Tokenizer.from_file(str(directory / spec.tokenizer))
        except Exception as error:
            raise BundleInvalidError(f"{spec.tokenizer} is not a file of the tokenizers library") from error
        size = self._tokenizer.get_vocab_size()
        if size != spec.vocabulary_size:
            raise BundleInvalidError(
                f"{spec.tokenizer} has {size} tokens, the manifest says {spec.vocabulary_size}"
            )
        length = None if spec.dynamic_length else spec.context_length
        self._is_dynamic = spec.dynamic_length
        self._most_padding: float = _MOST_PADDING
        self._tokenizer.enable_padding(length=length, pad_id=spec.pad_id)
        self._tokenizer.enable_truncation(max_length=spec.context_length)

    def __call__(self, texts: Sequence[str]) -> NDArray[np.int64]:
        """Token ids int64 [len(texts), length], length at most context_length."""
        ids, lengths = self._ids(texts)
        return ids[:, : lengths.max()]

    def batches(
        self, texts: Sequence[str], n_rows: int
    ) -> Iterator[tuple[NDArray[np.intp], NDArray[np.int64]]]:
        """The texts in batches of similar length, the shortest first, so that little of them is padding.

        Args:
            texts: At least one.
            n_rows: Maximum number of texts in a batch.

        Yields:
            Which of the texts they are [n], and their token ids int64 [n, length].
        """
        ids, lengths = self._ids(texts)
        order = np.argsort(lengths, kind="stable")
        for start, end in _cuts(lengths[order].tolist(), n_rows, self._most_padding):
            places = order[start:end]
            yield places, ids[places, : lengths[places[-1]]]

    def _ids(self, texts: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Token ids, padded to the longest text or the context length, and how many of them a graph needs."""
        encodings = self._tokenizer.encode_batch_fast(list(texts))
        ids = np.array([one.ids for one in encodings], dtype=np.int64)
        needed = [sum(one.attention_mask) if self._is_dynamic else ids.shape[1] for one in encodings]
        return ids, np.array(needed, dtype=np.int64)

    def count(self, texts: Sequence[str]) -> int:
        """Tokens of all texts together, without padding."""
        return sum(sum(one.attention_mask) for one in self._tokenizer.encode_batch_fast(list(texts)))

    def in_large_batches(self) -> Tokens:
        """The same tokenizer, whose batches have as many rows as they may, whatever they are padded with.

        For a GPU, where a run costs hardly more with more rows.
        """
        other = copy.copy(self)
        other._most_padding = math.inf
        return other


def _cuts(lengths: Sequence[int], n_rows: int, most_padding: float) -> Iterator[tuple[int, int]]:
    """Start and end of batches of rows, whose lengths rise; each has at most n_rows and most_padding."""
    start = total = 0
    for i, length in enumerate(lengths):
        if i - start == n_rows or (i - start) * length - total > most_padding:
            yield start, i
            start, total = i, 0
        total += length
    yield start, len(lengths)
