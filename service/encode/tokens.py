"""Token ids from a bundle's tokenizer file, as long as the text graph wants."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from service.bundle.manifest import TextTower
from service.errors import BundleInvalidError


class Tokens:
    """Turns texts into token ids, cut to the context length.

    They are padded to it too, or to the longest text where the graph takes shorter rows.
    """

    def __init__(self, directory: Path, tower: TextTower) -> None:
        try:
            self._tokenizer = Tokenizer.from_file(str(directory / tower.tokenizer))
        except Exception as error:
            raise BundleInvalidError(f"{tower.tokenizer} is not a file of the tokenizers library") from error
        size = self._tokenizer.get_vocab_size()
        if size != tower.vocabulary_size:
            raise BundleInvalidError(
                f"{tower.tokenizer} has {size} tokens, the manifest says {tower.vocabulary_size}"
            )
        length = None if tower.dynamic_length else tower.context_length
        self._pad_id = tower.pad_id
        self._lengths: tuple[int, ...] = ()
        self._tokenizer.enable_padding(length=length, pad_id=tower.pad_id)
        self._tokenizer.enable_truncation(max_length=tower.context_length)

    def __call__(self, texts: Sequence[str]) -> NDArray[np.int64]:
        """Token ids int64 [len(texts), length], length at most context_length."""
        encodings = self._tokenizer.encode_batch_fast(list(texts))
        ids = np.array([encoding.ids for encoding in encodings], dtype=np.int64)
        n_missing = min(
            (length - ids.shape[1] for length in self._lengths if length >= ids.shape[1]), default=0
        )
        return np.pad(ids, ((0, 0), (0, n_missing)), constant_values=self._pad_id)

    def in_lengths(self, lengths: Sequence[int]) -> Tokens:
        """The same, padded further to the next of some lengths: so a graph sees few of them."""
        other = copy.copy(self)
        other._lengths = tuple(lengths)
        return other
