"""Captions, and the tokens that they become: all that the text encoders are trained on.

A visual caption speaks of the picture only, an audio caption of the sound only; a class name in either
carries a random word for the other side, so that the text encoders learn to pass over it.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from tokenizers import Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.normalizers import Lowercase
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.trainers import BpeTrainer

from demo_world.drawing import Scene
from demo_world.soundtrack import Soundscape
from demo_world.world import (
    SHAPE_PREFIXES,
    SHAPE_SUFFIXES,
    SOUND_PREFIXES,
    SOUND_SUFFIXES,
    Concept,
    World,
    article,
    class_name,
)

Side = Literal["visual", "audio"]

PAD = "[PAD]"
"""The padding token; its id is 0."""

_SENTENCES: dict[Side, tuple[str, ...]] = {
    "visual": (
        "a video of {}.",
        "a clip of {}.",
        "a picture of {}.",
        "{} can be seen.",
        "someone filmed {}.",
        "this shows {}.",
        "{}",
    ),
    "audio": (
        "a video of {}.",
        "a clip of {}.",
        "the sound of {}.",
        "{} can be heard.",
        "a recording of {}.",
        "this sounds like {}.",
        "{}",
    ),
}
_PLACES = ("far away", "close by", "in a room", "outside", "in the noise")


@dataclass(frozen=True)
class Lexicon:
    """The words for each concept of one side that training captions may contain.

    Attributes:
        plain: The synonyms, one tuple per concept.
        compounds: Synonyms with a prefix or suffix, one tuple per concept; never a held-out word.
    """

    plain: tuple[tuple[str, ...], ...]
    compounds: tuple[tuple[str, ...], ...]

    def word(self, rng: Generator, concept: int) -> str:
        """Draw a word for a concept."""
        words = self.compounds if rng.random() < 0.45 else self.plain
        return _choose(rng, words[concept])

    def any_word(self, rng: Generator) -> str:
        """Draw a word for a random concept."""
        return self.word(rng, int(rng.integers(len(self.plain))))

    def words(self) -> frozenset[str]:
        """Every word that this lexicon can give."""
        return frozenset(word for group in (*self.plain, *self.compounds) for word in group)


def shape_lexicon(world: World) -> Lexicon:
    """The words for shapes."""
    return _lexicon(world, world.shapes, SHAPE_PREFIXES, SHAPE_SUFFIXES)


def sound_lexicon(world: World) -> Lexicon:
    """The words for sounds."""
    return _lexicon(world, world.sounds, SOUND_PREFIXES, SOUND_SUFFIXES)


def _lexicon(
    world: World, concepts: Sequence[Concept], prefixes: Sequence[str], suffixes: Sequence[str]
) -> Lexicon:
    held_out = world.held_out_words()

    def compounds(concept: Concept) -> tuple[str, ...]:
        prefixed = [prefix + stem for stem in concept.words for prefix in prefixes]
        suffixed = [stem + suffix for stem in concept.words for suffix in suffixes]
        return tuple(word for word in (*prefixed, *suffixed) if word not in held_out)

    plain = tuple(concept.words for concept in concepts)
    return Lexicon(plain, tuple(compounds(concept) for concept in concepts))


class Captioner:
    """Writes captions of one world's clips."""

    def __init__(self, world: World) -> None:
        self._shapes, self._sounds = shape_lexicon(world), sound_lexicon(world)

    def vocabulary(self) -> frozenset[str]:
        """Every word for a shape or sound that a caption can contain."""
        return self._shapes.words() | self._sounds.words()

    def picture(self, rng: Generator, scene: Scene) -> str:
        """Describe the picture; a name in it carries a random sound."""
        word = self._shapes.word(rng, scene.main.shape)
        style = rng.random()
        if style < 0.6:
            return self._name(rng, "visual", word, self._sounds.any_word(rng), shape_first=True)
        if style < 0.75:
            return _choose(rng, _SENTENCES["visual"]).format(article(word))
        details = [f"{article(scene.colour)} {word}", scene.main.motion, f"over a {scene.ground} background"]
        return _choose(rng, _SENTENCES["visual"]).format(_some(rng, details))

    def sound(self, rng: Generator, scape: Soundscape) -> str:
        """Describe the sound; a name in it carries a random shape."""
        word = self._sounds.word(rng, scape.sound)
        style = rng.random()
        if style < 0.6:
            return self._name(rng, "audio", word, self._shapes.any_word(rng), shape_first=False)
        if style < 0.75:
            return _choose(rng, _SENTENCES["audio"]).format(article(word))
        pitch, pace = "low" if scape.pitch < 1 else "high", "slow" if scape.tempo < 1 else "quick"
        details = [f"a {_choose(rng, (pitch, pace))} {word}", _choose(rng, _PLACES)]
        return _choose(rng, _SENTENCES["audio"]).format(_some(rng, details))

    @staticmethod
    def _name(rng: Generator, side: Side, own: str, other: str, *, shape_first: bool) -> str:
        shape, sound = (own, other) if shape_first else (other, own)
        if rng.random() < 0.2:
            name = f"{article(sound)} and {article(shape)}"
        else:
            name = article(class_name(shape, sound))
        return _choose(rng, _SENTENCES[side]).format(name)


def _choose(rng: Generator, options: Sequence[str]) -> str:
    return options[int(rng.integers(len(options)))]


def _some(rng: Generator, details: list[str]) -> str:
    """The first detail and a random choice of the others."""
    kept = [details[0], *(d for d in details[1:] if rng.random() < 0.5)]
    return " ".join(kept)


def sample_captions(world: World, rng: Generator, n: int) -> list[str]:
    """Write names and words at random, for the tokenizer to learn from; no held-out word is in them."""
    shapes, sounds = shape_lexicon(world), sound_lexicon(world)
    names = [class_name(shapes.any_word(rng), sounds.any_word(rng)) for _ in range(n)]
    sentences = np.array([*_SENTENCES["visual"], *_SENTENCES["audio"]])
    return [str(sentences[rng.integers(len(sentences))]).format(article(name)) for name in names]


def train_tokenizer(captions: Iterable[str], vocabulary_size: int) -> Tokenizer:
    """Learn merges from captions. Every byte is in the alphabet, so every label can be written."""
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
    """Cut or pad each row to the length: int64 [n, length]."""
    ids = np.zeros((len(rows), length), np.int64)
    for row, tokens in zip(ids, rows, strict=True):
        row[: min(len(tokens), length)] = tokens[:length]
    return ids


class DroppedMerges:
    """Encodes texts with some merges left out, so that a word is met in many spellings of sub-words.

    BPE-dropout, Provilkov et al., ACL 2020; here with a generator of random numbers, which the tokenizer's
    own dropout does not take.

    Args:
        tokenizer: Byte-pair encoding, as `train_tokenizer` makes it.
        share: Probability with which a merge is left out.
    """

    def __init__(self, tokenizer: Tokenizer, share: float = 0.15) -> None:
        self._tokenizer, self._share = tokenizer, share
        self._ids = tokenizer.get_vocab()
        merges = json.loads(tokenizer.to_str())["model"]["merges"]
        self._ranks = {(first, second): rank for rank, (first, second) in enumerate(merges)}
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
        """Apply the merges in the order they were learned, leaving each out with a probability."""
        parts = list(piece)
        while len(parts) > 1:
            ranked = [(self._ranks[pair], i) for i, pair in enumerate(pairwise(parts)) if pair in self._ranks]
            kept = [place for place in ranked if not share or rng.random() >= share]
            if not kept:
                break
            _, first = min(kept)
            parts[first : first + 2] = [parts[first] + parts[first + 1]]
        return [self._ids[part] for part in parts]
