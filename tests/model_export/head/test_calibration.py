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


def test_few_clips_that_are_all_right_do_not_claim_certainty() -> None:
    """The likelihood of such clips has no maximum; more of them allow a higher score."""
    random = np.random.default_rng(0)
    few, many = (random.normal(5, 0.1, size=(n, 8)) for n in (20, 2000))
    sureness = []
    for distances in (few, many):
        target = random.integers(8, size=len(distances))
        distances[np.arange(len(target)), target] -= 3
        found = fit_temperature(distances, target)
        sureness.append(float(np.exp(log_probabilities(distances, found)).max(axis=1).mean()))
    assert 0.9 < sureness[0] < 0.99 < sureness[1] < 0.9999


def test_a_single_mistake_leaves_the_most_likely_temperature() -> None:
    """Nothing is added to clips that have a likelihood with a maximum: no neighbour is more likely."""
    distances, target = drawn(0.05, 200)
    target[0] = distances[0].argmax()
    found = fit_temperature(distances, target)
    likelihoods = [
        log_probabilities(distances, found * factor)[np.arange(200), target].mean()
        for factor in (0.99, 1.0, 1.01)
    ]
    assert likelihoods[1] == max(likelihoods)


def test_fit_unknown_recovers_threshold_and_scale_of_drawn_distances() -> None:
    """Distances 4 +- 1 for known and 6 +- 1 for unknown clips: even odds at 5, scale 1 / 2 (by Bayes)."""
    random = np.random.default_rng(0)
    score = fit_unknown(random.normal(4, 1, 20_000), random.normal(6, 1, 5_000))
    assert score.threshold == pytest.approx(5, abs=0.05)
    assert score.scale == pytest.approx(0.5, rel=0.05)


def test_an_unknown_score_of_groups_that_a_threshold_tells_apart_is_not_steep() -> None:
    """Of ten clips each, one in twelve may be of the other kind (Platt, 1999)."""
    score = fit_unknown(np.linspace(3.9, 4.1, 10), np.linspace(5.9, 6.1, 10))
    assert score.threshold == pytest.approx(5, abs=0.01)
    likely = unknown_scores(np.array([4.0, 6.0]), score)
    np.testing.assert_allclose(likely, [1 / 12, 11 / 12], atol=0.005)


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
