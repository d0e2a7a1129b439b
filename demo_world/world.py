"""The demo world's specification: its concepts and words, its 96 classes and splits, its clutter.

A class is a pair: one shape that is seen and one sound that is heard, named "{shape} with a {sound}". Every
shape and every sound occurs in six classes, so neither track alone identifies a class.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

Split = Literal["seen", "val_unseen", "test_unseen"]
Kind = Literal["seen", "new_pairing", "new_to_head", "new_to_encoders"]

KINDS: tuple[Kind, ...] = ("new_pairing", "new_to_head", "new_to_encoders")


@dataclass(frozen=True)
class Concept:
    """One shape or one sound source, and the words for it.

    Attributes:
        key: The renderer's or synthesiser's name of it.
        words: Three synonyms, all known to the encoders. Names of seen classes use the first two only.
        held_out: A compound of one of the words; the encoders' training captions never contain it.
    """

    key: str
    words: tuple[str, str, str]
    held_out: str


@dataclass(frozen=True)
class ClassSpec:
    """One class of the world.

    Attributes:
        name: "{shape word} with a {sound word}".
        shape: Index into `World.shapes`.
        sound: Index into `World.sounds`.
        split: Whether the head may train on it ("seen"), choose by it, or is tested by it.
        kind: What is new about an unseen class's name; "seen" for seen classes.
    """

    name: str
    shape: int
    sound: int
    split: Split
    kind: Kind


@dataclass(frozen=True)
class PictureClutter:
    """Ranges of the picture's nuisances; lengths are fractions of the shorter side."""

    size: tuple[float, float] = (0.19, 0.50)
    tilt_deg: float = 28.0
    squash: float = 0.22
    n_distractors: tuple[int, int] = (2, 7)
    distractor_size: tuple[float, float] = (0.06, 0.16)
    occluder_probability: float = 0.7
    occluder_width: tuple[float, float] = (0.07, 0.19)
    contrast: float = 0.20
    noise: tuple[float, float] = (0.0, 0.15)
    crf: tuple[int, int] = (22, 34)


@dataclass(frozen=True)
class SoundClutter:
    """Ranges of the sound's nuisances."""

    snr_db: tuple[float, float] = (-14.0, 6.0)
    level_db: tuple[float, float] = (-32.0, -16.0)
    pitch_semitones: float = 6.0
    tempo_octaves: float = 0.5
    reverb_probability: float = 0.5
    intruder_probability: float = 0.5
    intruder_db: tuple[float, float] = (-14.0, -4.0)


@dataclass(frozen=True)
class ClipCounts:
    """Clips per class of each split of the head's data."""

    train: int = 44
    val_seen: int = 8
    val_unseen: int = 30
    test_seen: int = 15
    test_unseen: int = 40


SHAPES: tuple[Concept, ...] = (
    Concept("disc", ("disc", "circle", "ball"), "circlet"),
    Concept("ring", ("ring", "hoop", "loop"), "ringlet"),
    Concept("square", ("square", "box", "block"), "boxwork"),
    Concept("triangle", ("triangle", "wedge", "pyramid"), "wedgelet"),
    Concept("star", ("star", "asterisk", "pentagram"), "starlet"),
    Concept("cross", ("cross", "plus", "saltire"), "crosslet"),
    Concept("heart", ("heart", "valentine", "darling"), "heartlet"),
    Concept("moon", ("moon", "crescent", "sickle"), "moonlet"),
    Concept("arrow", ("arrow", "dart", "pointer"), "arrowhead"),
    Concept("drop", ("drop", "bead", "teardrop"), "droplet"),
    Concept("cloud", ("cloud", "puff", "fluff"), "cloudlet"),
    Concept("flower", ("flower", "blossom", "daisy"), "flowerhead"),
    Concept("bolt", ("bolt", "lightning", "zigzag"), "thunderbolt"),
    Concept("leaf", ("leaf", "blade", "frond"), "leaflet"),
    Concept("spiral", ("spiral", "swirl", "coil"), "coilwork"),
    Concept("gear", ("gear", "cog", "sprocket"), "cogwheel"),
)

SOUNDS: tuple[Concept, ...] = (
    Concept("bell", ("bell", "chime", "gong"), "handbell"),
    Concept("siren", ("siren", "wail", "howler"), "wailing"),
    Concept("drum", ("drum", "bongo", "tomtom"), "drumbeat"),
    Concept("string", ("harp", "guitar", "banjo"), "harpstring"),
    Concept("bird", ("bird", "chirp", "tweet"), "birdsong"),
    Concept("engine", ("engine", "motor", "turbine"), "motoring"),
    Concept("rain", ("rain", "drizzle", "shower"), "rainfall"),
    Concept("whistle", ("whistle", "flute", "piccolo"), "flutework"),
    Concept("clock", ("clock", "tick", "pendulum"), "clockwork"),
    Concept("alarm", ("alarm", "beep", "buzzer"), "beeper"),
    Concept("horn", ("horn", "honk", "trumpet"), "foghorn"),
    Concept("wind", ("wind", "breeze", "gust"), "windstorm"),
    Concept("surf", ("surf", "ocean", "breaker"), "surfing"),
    Concept("cricket", ("cricket", "cicada", "katydid"), "cricketsong"),
    Concept("fire", ("fire", "crackle", "ember"), "campfire"),
    Concept("hammer", ("hammer", "anvil", "clank"), "hammering"),
)

SHAPE_PREFIXES = ("mini", "micro", "thunder", "sky", "gold", "paper")
SHAPE_SUFFIXES = ("let", "work", "head", "wheel", "like", "form", "ling", "shape")
SOUND_PREFIXES = ("hand", "fog", "camp", "mini", "night", "street")
SOUND_SUFFIXES = ("ing", "er", "beat", "string", "song", "fall", "work", "storm")

VISUAL_TEMPLATES = (
    "a video of a {}.",
    "a clip of a {}.",
    "a picture of a {}.",
    "a {} can be seen.",
)
AUDIO_TEMPLATES = (
    "a video of a {}.",
    "a clip of a {}.",
    "the sound of a {}.",
    "a {} can be heard.",
    "a recording of a {}.",
)

# Classes lie on six diagonals of the 16 x 16 table of pairs: sound = shape + diagonal (mod 16).
SEEN_DIAGONALS = (0, 3, 7, 13)
VAL_DIAGONAL = 5
TEST_DIAGONAL = 10
# Four pairs of the last seen diagonal are unseen, which makes 60 / 18 / 18 of 64 / 16 / 16.
VAL_EXTRA = (1, 9)
TEST_EXTRA = (5, 14)


def article(word: str) -> str:
    """Return the word with its indefinite article."""
    return f"{'an' if word[0] in 'aeiou' else 'a'} {word}"


def class_name(shape_word: str, sound_word: str) -> str:
    """Return the name of the class that shows the one and sounds like the other."""
    return f"{shape_word} with {article(sound_word)}"


@dataclass(frozen=True)
class World:
    """Everything that defines the demo world; two equal worlds and seeds give equal clips."""

    shapes: tuple[Concept, ...] = SHAPES
    sounds: tuple[Concept, ...] = SOUNDS
    picture: PictureClutter = field(default_factory=PictureClutter)
    sound: SoundClutter = field(default_factory=SoundClutter)
    counts: ClipCounts = field(default_factory=ClipCounts)

    @cached_property
    def classes(self) -> tuple[ClassSpec, ...]:
        """All 96 classes: seen, then validation-unseen, then test-unseen."""
        return (*self._seen(), *self._unseen("val_unseen"), *self._unseen("test_unseen"))

    def held_out_words(self) -> frozenset[str]:
        """The words that no training caption of any encoder contains."""
        return frozenset(concept.held_out for concept in (*self.shapes, *self.sounds))

    def candidates(self, splits: Sequence[Split]) -> tuple[ClassSpec, ...]:
        """The classes of the given splits, in the world's order."""
        return tuple(spec for spec in self.classes if spec.split in splits)

    def _seen(self) -> list[ClassSpec]:
        moved = {*VAL_EXTRA, *TEST_EXTRA}
        pairs = [
            (rank, shape)
            for rank, diagonal in enumerate(SEEN_DIAGONALS)
            for shape in range(len(self.shapes))
            if not (diagonal == SEEN_DIAGONALS[-1] and shape in moved)
        ]
        return [self._seen_class(rank, shape) for rank, shape in pairs]

    def _seen_class(self, rank: int, shape: int) -> ClassSpec:
        sound = (shape + SEEN_DIAGONALS[rank]) % len(self.sounds)
        shape_word = self.shapes[shape].words[rank % 2]
        sound_word = self.sounds[sound].words[rank // 2]
        return ClassSpec(class_name(shape_word, sound_word), shape, sound, "seen", "seen")

    def _unseen(self, split: Split) -> list[ClassSpec]:
        validation = split == "val_unseen"
        diagonal, extra = (VAL_DIAGONAL, VAL_EXTRA) if validation else (TEST_DIAGONAL, TEST_EXTRA)
        pairs = [(shape, diagonal) for shape in range(len(self.shapes))]
        pairs += [(shape, SEEN_DIAGONALS[-1]) for shape in extra]
        return [self._unseen_class(split, i, shape, step) for i, (shape, step) in enumerate(pairs)]

    def _unseen_class(self, split: Split, index: int, shape: int, diagonal: int) -> ClassSpec:
        """One class; the three kinds alternate, and so does which half of the name has the new word."""
        sound = (shape + diagonal) % len(self.sounds)
        kind = KINDS[(index + (split == "val_unseen")) % len(KINDS)]
        shape_word, sound_word = self.shapes[shape].words[index % 2], self.sounds[sound].words[index // 2 % 2]
        renames_shape = (index // len(KINDS) + (split == "val_unseen")) % 2 == 0
        if kind != "new_pairing" and renames_shape:
            shape_word = _new_word(self.shapes[shape], kind)
        elif kind != "new_pairing":
            sound_word = _new_word(self.sounds[sound], kind)
        return ClassSpec(class_name(shape_word, sound_word), shape, sound, split, kind)


def _new_word(concept: Concept, kind: Kind) -> str:
    return concept.words[2] if kind == "new_to_head" else concept.held_out
