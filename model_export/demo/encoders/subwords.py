"""The tokenizer of the tiny text towers: byte-pair encoding, with dropout of merges in training."""

from collections.abc import Iterable, Sequence
from itertools import pairwise

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from tokenizers import Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.normalizers import Lowercase
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.trainers import BpeTrainer

PAD = "[PAD]"
"""The padding token; its id is 0."""


def train_tokenizer(captions: Iterable[str], vocabulary_size: int) -> Tokenizer:
    """Learns merges from captions. Every byte is in the alphabet, so every label can be written."""
    tokenizer = Tokenizer(BPE())
    tokenizer.normalizer = Lowercase()
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=True)
    tokenizer.decoder = ByteLevelDecoder()
    trainer = BpeTrainer(
        vocab_size=vocabulary_size,
        special_tokens=[PAD],
        initial_alphabet=ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(captions, trainer)
    return tokenizer


def encode(tokenizer: Tokenizer, texts: Sequence[str], length: int) -> NDArray[np.int64]:
    """Token ids int64 [n, length], cut or padded to the length."""
    rows = [encoding.ids for encoding in tokenizer.encode_batch(list(texts))]
    return pad(rows, length)


def pad(rows: Sequence[Sequence[int]], length: int) -> NDArray[np.int64]:
    """Cuts or pads each row to the length: int64 [n, length]."""
    ids = np.zeros((len(rows), length), np.int64)
    for row, tokens in zip(ids, rows, strict=True):
        row[: min(len(tokens), length)] = tokens[:length]
    return ids


class DroppedMerges:
    """Encodes texts with some merges left out, so that a word is met in many spellings of sub-words.

    BPE-dropout, Provilkov et al., ACL 2020; here with a generator of random numbers, which the tokenizer's
    own dropout does not take.
    """

    def __init__(self, tokenizer: Tokenizer, merges: Sequence[tuple[str, str]], share: float) -> None:
        self._tokenizer, self._share = tokenizer, share
        self._ids = tokenizer.get_vocab()
        self._ranks = {pair: rank for rank, pair in enumerate(merges)}
        self._whole: dict[str, list[int]] = {}

    def encode(self, rng: Generator, text: str) -> list[int]:
        """Token ids of a text, with about half of its words split at random."""
        pieces = self._tokenizer.pre_tokenizer.pre_tokenize_str(text.lower())
        return [token for piece, _ in pieces for token in self._piece(rng, piece)]

    def _piece(self, rng: Generator, piece: str) -> list[int]:
        if rng.random() < 0.5:
            return self._split(rng, piece, self._share)
        if piece not in self._whole:
            self._whole[piece] = self._split(rng, piece, 0.0)
        return self._whole[piece]

    def _split(self, rng: Generator, piece: str, share: float) -> list[int]:
        """Applies the merges in the order they were learned, leaving each out with a probability."""
        parts = list(piece)
        while len(parts) > 1:
            ranked = [(self._ranks[pair], i) for i, pair in enumerate(pairwise(parts)) if pair in self._ranks]
            kept = [place for place in ranked if not share or rng.random() >= share]
            if not kept:
                break
            _, first = min(kept)
            parts[first : first + 2] = [parts[first] + parts[first + 1]]
        return [self._ids[part] for part in parts]
