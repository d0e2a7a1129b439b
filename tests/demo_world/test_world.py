"""The demo world's split: sizes, and what is new about each unseen class's name."""

from collections import Counter

import pytest

from demo_world.captions import Captioner
from demo_world.world import KINDS, ClassSpec, World


@pytest.fixture(scope="module")
def world() -> World:
    """The world as it is shipped."""
    return World()


def words(spec: ClassSpec) -> set[str]:
    """The shape's and the sound's word in a class name."""
    shape, sound = spec.name.split(" with ")
    return {shape, sound.split(" ", 1)[1]}


def known_to_head(world: World) -> set[str]:
    """Words of every class that the head may be trained on, validation classes included."""
    return set().union(*(words(spec) for spec in world.candidates(("seen", "val_unseen"))))


def test_96_different_pairs_split_60_18_18(world: World) -> None:
    """Names and pairs are unique and the splits have their sizes."""
    assert Counter(spec.split for spec in world.classes) == {"seen": 60, "val_unseen": 18, "test_unseen": 18}
    assert len({spec.name for spec in world.classes}) == 96
    assert len({(spec.shape, spec.sound) for spec in world.classes}) == 96


def test_each_split_has_6_classes_of_each_kind(world: World) -> None:
    """The three kinds of newness are dealt evenly."""
    for split in ("val_unseen", "test_unseen"):
        kinds = Counter(spec.kind for spec in world.classes if spec.split == split)
        assert kinds == dict.fromkeys(KINDS, 6)


def test_neither_track_alone_names_a_class(world: World) -> None:
    """Among seen and test classes, every shape and every sound occurs at least four times."""
    candidates = world.candidates(("seen", "test_unseen"))
    assert min(Counter(spec.shape for spec in candidates).values()) >= 4
    assert min(Counter(spec.sound for spec in candidates).values()) >= 4


@pytest.mark.parametrize("split", ["val_unseen", "test_unseen"])
def test_kinds_say_what_seen_names_and_captions_contain(world: World, split: str) -> None:
    """The law of the three kinds, from the words of seen classes and of all possible captions."""
    seen = set().union(*(words(spec) for spec in world.candidates(("seen",))))
    in_captions = Captioner(world).vocabulary()
    for spec in (spec for spec in world.classes if spec.split == split):
        new_to_head, new_to_encoders = words(spec) - seen, words(spec) - in_captions
        expected = {"new_pairing": (0, 0), "new_to_head": (1, 0), "new_to_encoders": (1, 1)}[spec.kind]
        assert (len(new_to_head), len(new_to_encoders)) == expected, spec.name


def test_test_words_stay_new_when_the_head_is_trained_on_validation_too(world: World) -> None:
    """The second stage trains on validation classes; their names give none of the test's new words away."""
    for spec in (spec for spec in world.classes if spec.split == "test_unseen"):
        assert bool(words(spec) - known_to_head(world)) == (spec.kind != "new_pairing"), spec.name


def test_names_use_words_of_their_own_shape_and_sound(world: World) -> None:
    """A name never says something else than its clips show."""
    for spec in world.classes:
        shape, sound = world.shapes[spec.shape], world.sounds[spec.sound]
        assert words(spec) <= {*shape.words, shape.held_out, *sound.words, sound.held_out}


def test_held_out_words_contain_a_known_stem(world: World) -> None:
    """A word that is new to the encoders can be read from its parts."""
    for concept in (*world.shapes, *world.sounds):
        assert any(word in concept.held_out for word in concept.words) or concept.key in concept.held_out
