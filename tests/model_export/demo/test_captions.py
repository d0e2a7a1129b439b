"""Captions: what they contain, and what they must never contain."""

import re

import numpy as np

from model_export.demo.captions import Captioner, sample_captions
from model_export.demo.clips import Studio
from model_export.demo.world import World


def test_no_caption_can_contain_a_held_out_word() -> None:
    """Proven on the vocabulary that every caption draws its words from."""
    world = World()
    assert not Captioner(world).vocabulary() & world.held_out_words()


def test_captions_and_tokenizer_texts_are_free_of_held_out_words() -> None:
    """The same, seen on written captions."""
    world, rng = World(), np.random.default_rng(0)
    studio, captioner = Studio(world), Captioner(world)
    texts = sample_captions(world, rng, 2000)
    for index in range(300):
        plan = studio.plan(rng, index % 16, index // 16 % 16)
        texts += [captioner.picture(rng, plan.scene), captioner.sound(rng, plan.soundscape)]
    written = {word for text in texts for word in re.findall(r"\w+", text)}
    assert not written & world.held_out_words()


def test_captions_follow_from_the_seed() -> None:
    """Equal generators write equal captions."""
    world = World()
    scene = Studio(world).plan(np.random.default_rng(1), 3, 4).scene
    captioner = Captioner(world)
    first, second = (
        [captioner.picture(np.random.default_rng(s), scene) for s in range(20)] for _ in range(2)
    )
    assert first == second
    assert len(set(first)) > 10
