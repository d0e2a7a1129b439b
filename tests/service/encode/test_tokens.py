"""Texts to token ids in batches of similar length."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from service.encode.tokens import Tokens
from service.registry import load_bundle
from service.runtime.providers import Runtime

N_ROWS = 64


def _words(*n_words: int) -> list[str]:
    return [" ".join(["red"] * n) for n in n_words]


@pytest.fixture(scope="module")
def fixed(toy_bundle: Path) -> Tokens:
    """A token for each word, for a graph that takes rows of the context length only."""
    return load_bundle(toy_bundle, Runtime(device="cpu", n_threads=1)).encoders.tokens_visual


@pytest.fixture(scope="module")
def tokens(toy_bundle: Path) -> Tokens:
    """The same, for a graph that takes shorter rows too."""
    text = load_bundle(toy_bundle, Runtime(device="cpu", n_threads=1)).manifest.visual.text
    return Tokens(toy_bundle, text.model_copy(update={"dynamic_length": True}))


def _shapes(tokens: Tokens, texts: list[str], n_rows: int = N_ROWS) -> list[tuple[int, ...]]:
    return [ids.shape for _, ids in tokens.batches(texts, n_rows)]


def test_each_text_is_in_one_batch_with_the_ids_that_it_has_alone(tokens: Tokens) -> None:
    """Behind them is padding."""
    texts = _words(3, 12, 1, 8, 3, 2, 9, 12, 1)
    found = {
        place: row
        for places, ids in tokens.batches(texts, 2)
        for place, row in zip(places.tolist(), ids, strict=True)
    }
    assert sorted(found) == list(range(len(texts)))
    for place, text in enumerate(texts):
        alone = tokens([text])[0]
        np.testing.assert_array_equal(found[place][: len(alone)], alone)
        assert not found[place][len(alone) :].any()


def test_short_and_long_texts_are_in_different_batches(tokens: Tokens) -> None:
    """As soon as there would be more than eight tokens of padding."""
    assert _shapes(tokens, _words(10, 2, 2, 10, 2)) == [(3, 2), (2, 10)]
    assert _shapes(tokens, _words(10, 2)) == [(2, 10)]
    assert _shapes(tokens, _words(11, 2)) == [(1, 2), (1, 11)]


def test_a_batch_has_no_more_texts_than_it_may(tokens: Tokens) -> None:
    """Also where all are of one length."""
    assert _shapes(tokens, _words(*[4] * 5), 2) == [(2, 4), (2, 4), (1, 4)]


def test_large_batches_are_never_cut_short(tokens: Tokens) -> None:
    """A GPU gets its rows at once; the shortest still come first, and are padded least."""
    large = tokens.in_large_batches()
    assert _shapes(large, _words(2, 12, 1, 3, 9)) == [(5, 12)]
    assert _shapes(large, _words(2, 12, 1, 3, 9), 3) == [(3, 3), (2, 12)]


def test_a_fixed_length_takes_full_batches(fixed: Tokens) -> None:
    """Nothing can be cut off."""
    length = fixed(["red"]).shape[1]
    assert _shapes(fixed, _words(2, length, 1)) == [(3, length)]
