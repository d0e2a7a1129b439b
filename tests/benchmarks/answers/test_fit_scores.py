"""Scores of a similarity head, fitted to rankings whose law is known."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.answers.fit_scores import Ranked, fit


def _drawn(sharpness: float, n_names: int, n_clips: int = 4000) -> list[Ranked]:
    """Clips whose right names are drawn with the probabilities that a softmax gives them."""
    draw = np.random.default_rng(n_names)
    similarity = draw.normal(0, 1, (n_clips, n_names))
    shares = np.exp(similarity * sharpness)
    shares /= shares.sum(axis=1, keepdims=True)
    right = [int(draw.choice(n_names, p=row)) for row in shares]
    return [Ranked(row, index, 1.0) for row, index in zip(similarity, right, strict=True)]


@pytest.mark.parametrize("sharpness", [0.5, 2.0])
def test_the_temperature_that_drew_the_names_is_found(sharpness: float) -> None:
    """1 / sharpness, within what 4000 clips tell."""
    assert fit(_drawn(sharpness, 5)).temperature == pytest.approx(1 / sharpness, rel=0.1)


def test_unknown_tells_lists_without_the_right_name() -> None:
    """Right names lie at 5, wrong ones at 0: the threshold is between, and more names don't lower it."""
    draw = np.random.default_rng(0)
    ranked = []
    for n_names in (5, 50):
        for _ in range(200):
            similarity = draw.normal(0, 0.3, n_names)
            similarity[0] = draw.normal(5, 0.3)
            ranked.append(Ranked(similarity, 0, 1.0))
    found = fit(ranked)
    for n_names in (5, 50):
        threshold = found.unknown_threshold + found.unknown_slope * np.log(n_names)
        assert 1.0 < threshold < 4.5
    assert found.unknown_slope >= 0
