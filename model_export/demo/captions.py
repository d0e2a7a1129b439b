"""Captions: what the encoders are told of a clip, and every word that they can ever be told.

A visual caption speaks of the picture only, an audio caption of the sound only; a class name in either
carries a random word for the other side, so that the text towers learn to pass over it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.random import Generator

from model_export.demo.picture import Scene
from model_export.demo.sound import Soundscape
from model_export.demo.world import (
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

_FRAMES: dict[Side, tuple[str, ...]] = {
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
        """Draws a word for a concept."""
        words = self.compounds if rng.random() < 0.45 else self.plain
        return _choose(rng, words[concept])

    def any_word(self, rng: Generator) -> str:
        """Draws a word for a random concept."""
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
        """Describes the picture; a name in it carries a random sound."""
        word = self._shapes.word(rng, scene.main.shape)
        style = rng.random()
        if style < 0.6:
            return self._name(rng, "visual", word, self._sounds.any_word(rng), shape_first=True)
        if style < 0.75:
            return _choose(rng, _FRAMES["visual"]).format(article(word))
        details = [f"{article(scene.colour)} {word}", scene.main.motion, f"over a {scene.ground} background"]
        return _choose(rng, _FRAMES["visual"]).format(_some(rng, details))

    def sound(self, rng: Generator, scape: Soundscape) -> str:
        """Describes the sound; a name in it carries a random shape."""
        word = self._sounds.word(rng, scape.sound)
        style = rng.random()
        if style < 0.6:
            return self._name(rng, "audio", word, self._shapes.any_word(rng), shape_first=False)
        if style < 0.75:
            return _choose(rng, _FRAMES["audio"]).format(article(word))
        pitch, pace = "low" if scape.pitch < 1 else "high", "slow" if scape.tempo < 1 else "quick"
        details = [f"a {_choose(rng, (pitch, pace))} {word}", _choose(rng, _PLACES)]
        return _choose(rng, _FRAMES["audio"]).format(_some(rng, details))

    @staticmethod
    def _name(rng: Generator, side: Side, own: str, other: str, *, shape_first: bool) -> str:
        shape, sound = (own, other) if shape_first else (other, own)
        if rng.random() < 0.2:
            name = f"{article(sound)} and {article(shape)}"
        else:
            name = article(class_name(shape, sound))
        return _choose(rng, _FRAMES[side]).format(name)


def _choose(rng: Generator, options: Sequence[str]) -> str:
    return options[int(rng.integers(len(options)))]


def _some(rng: Generator, details: list[str]) -> str:
    """The first detail and a random choice of the others."""
    kept = [details[0], *(d for d in details[1:] if rng.random() < 0.5)]
    return " ".join(kept)


def sample_captions(world: World, rng: Generator, n: int) -> list[str]:
    """Writes names and words at random, for the tokenizer to learn from; no held-out word is in them."""
    shapes, sounds = shape_lexicon(world), sound_lexicon(world)
    names = [class_name(shapes.any_word(rng), sounds.any_word(rng)) for _ in range(n)]
    frames = np.array([*_FRAMES["visual"], *_FRAMES["audio"]])
    return [str(frames[rng.integers(len(frames))]).format(article(name)) for name in names]
