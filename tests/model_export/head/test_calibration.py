"""Probabilities that agree with how often predictions are right, and the score of unknown clips."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import softmax

from model_export.head.calibration import (
    fit_temperature,
    fit_unknown,
    log_probabilities,
    unknown_scores,
    with_and_without_own,
)
from model_export.head.metrics import ClipDistances, reliability
from service.ranking import UnknownScore, unknown_of


def drawn(temperature: float, n: int = 20_000) -> tuple[np.ndarray, np.ndarray]:
    """Distances, and right answers drawn with exactly the probabilities of that temperature."""
    random = np.random.default_rng(0)
    distances = random.gamma(4.0, 1.0, size=(n, 5))
    p = softmax(-distances / temperature, axis=1)
    return distances, (p.cumsum(axis=1) < random.random((n, 1))).sum(axis=1)


@pytest.mark.parametrize("temperature", [0.05, 0.7, 5.0])
def test_fit_temperature_recovers_the_temperature_of_drawn_answers(temperature: float) -> None:
    """Within the sampling error of 20,000 clips; the probabilities are then calibrated."""
    distances, target = drawn(temperature)
    found = fit_temperature(distances, target)
    p = np.exp(log_probabilities(distances, found))
    assert found == pytest.approx(temperature, rel=0.1)
    np.testing.assert_allclose(p.sum(axis=1), 1)
    assert reliability(p.max(1), p.argmax(1) == target).calibration_error() < 0.02


def test_fit_unknown_recovers_threshold_and_scale_of_drawn_distances() -> None:
    """Distances 4 +- 1 for known and 6 +- 1 for unknown clips: even odds at 5, scale 1 / 2 (by Bayes)."""
    random = np.random.default_rng(0)
    score = fit_unknown(random.normal(4, 1, 20_000), random.normal(6, 1, 5_000))
    assert score.threshold == pytest.approx(5, abs=0.05)
    assert score.scale == pytest.approx(0.5, rel=0.05)


def test_an_unknown_score_is_a_probability_that_grows_with_distance() -> None:
    """One half at the threshold; the service computes the same."""
    nearest, fitted = np.array([1.0, 5.0, 9.0]), UnknownScore(threshold=5.0, scale=0.5)
    score = unknown_scores(nearest, fitted)
    assert score[1] == pytest.approx(0.5)
    assert 0 < score[0] < 0.01 < 0.99 < score[2] < 1
    np.testing.assert_allclose(score, [unknown_of(one, fitted) for one in nearest])


def test_nearest_distances_with_and_without_the_own_class() -> None:
    """By hand: the nearest is the own class for the first clip only."""
    clips = ClipDistances(np.array([[1.0, 2.0, 3.0], [1.0, 2.0, 3.0]]), np.array([0, 2]))
    with_own, without_own = with_and_without_own(clips, np.array([0, 1, 2]))
    np.testing.assert_array_equal(with_own, [1, 1])
    np.testing.assert_array_equal(without_own, [2, 1])
