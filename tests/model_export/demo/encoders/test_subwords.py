"""The tokenizer of the text towers."""

from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer

from model_export.demo.captions import sample_captions
from model_export.demo.encoders.build import dropped_merges
from model_export.demo.encoders.subwords import PAD, encode, train_tokenizer
from model_export.demo.world import World


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
    whole, dropping = dropped_merges(tokenizer, 0.0), dropped_merges(tokenizer, 0.3)
    rng, n_other = np.random.default_rng(2), 0
    for text in texts:
        assert whole.encode(rng, text) == tokenizer.encode(text).ids
        tokens = dropping.encode(rng, text)
        assert tokenizer.decode(tokens).strip() == text
        n_other += tokens != tokenizer.encode(text).ids
    assert n_other > 50
