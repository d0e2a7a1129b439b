"""Captions: what they contain, what they must never contain, and the tokens that they become."""

import re
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer

from demo_world.captions import PAD, Captioner, DroppedMerges, encode, sample_captions, train_tokenizer
from demo_world.recording import Studio
from demo_world.world import World


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


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    """A tokenizer trained on a few captions."""
    return train_tokenizer(sample_captions(World(), np.random.default_rng(0), 3000), 640)


def test_text_comes_back_in_lower_case(tokenizer: Tokenizer, tmp_path: Path) -> None:
    """Any text survives, also letters and words that no caption has, and also after saving."""
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    again = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    for text in ("A starlet with a bell.", "Zürich, 30°C!", "雨 and 🎻"):
        assert again.decode(tokenizer.encode(text).ids).strip() == text.lower()


def test_padding_is_token_0(tokenizer: Tokenizer) -> None:
    """Rows are as long as asked for: short ones padded, long ones cut."""
    ids = encode(tokenizer, ["a star", "a star " * 30], 12)
    assert tokenizer.token_to_id(PAD) == 0
    assert ids.shape == (2, 12)
    assert ids[0, -1] == 0
    assert (ids[1] > 0).all()


def test_dropout_of_merges_keeps_the_text(tokenizer: Tokenizer) -> None:
    """Without dropout the tokens are the tokenizer's own; with it they differ and spell the same."""
    texts = sample_captions(World(), np.random.default_rng(1), 100)
    whole, dropping = DroppedMerges(tokenizer, 0.0), DroppedMerges(tokenizer, 0.3)
    rng, n_other = np.random.default_rng(2), 0
    for text in texts:
        assert whole.encode(rng, text) == tokenizer.encode(text).ids
        tokens = dropping.encode(rng, text)
        assert tokenizer.decode(tokens).strip() == text
        n_other += tokens != tokenizer.encode(text).ids
    assert n_other > 50
