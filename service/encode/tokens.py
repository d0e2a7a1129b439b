"""The tokenizer of a text encoder: texts to token ids of the length that the graph takes."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from service.bundle.manifest import TextEncoderSpec
from service.errors import BundleInvalidError


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
        self._pad_id = spec.pad_id
        self._lengths: tuple[int, ...] = ()
        self._tokenizer.enable_padding(length=length, pad_id=spec.pad_id)
        self._tokenizer.enable_truncation(max_length=spec.context_length)

    def __call__(self, texts: Sequence[str]) -> NDArray[np.int64]:
        """Token ids int64 [len(texts), length], length at most context_length."""
        encodings = self._tokenizer.encode_batch_fast(list(texts))
        ids = np.array([encoding.ids for encoding in encodings], dtype=np.int64)
        n_missing = min(
            (length - ids.shape[1] for length in self._lengths if length >= ids.shape[1]), default=0
        )
        return np.pad(ids, ((0, 0), (0, n_missing)), constant_values=self._pad_id)

    def count(self, texts: Sequence[str]) -> int:
        """Tokens of all texts together, without padding."""
        return sum(sum(one.attention_mask) for one in self._tokenizer.encode_batch_fast(list(texts)))

    def padded_to(self, lengths: Sequence[int]) -> Tokens:
        """The same tokenizer, which pads rows to the next of a few lengths: a graph then runs few shapes."""
        other = copy.copy(self)
        other._lengths = tuple(lengths)
        return other
