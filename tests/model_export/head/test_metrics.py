"""Figures of merit against naive oracles and hand-worked cases."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import mannwhitneyu, skew

from model_export.head.metrics import (
    ClipDistances,
    auroc,
    beta_curve,
    confusions,
    harmonic_mean,
    hubness,
    mean_class_accuracy,
    occurrences,
    reliability,
)


def test_accuracy_is_the_mean_over_classes_not_over_clips() -> None:
    """Three right clips of one class and one wrong clip of another: 50, not 75."""
    predicted, actual = np.array([0, 0, 0, 0]), np.array([0, 0, 0, 1])
    assert mean_class_accuracy(predicted, actual) == 50.0


@pytest.mark.parametrize(("s", "u", "hm"), [(45.29, 24.22, 31.56), (88.05, 54.41, 67.26), (0.0, 0.0, 0.0)])
def test_harmonic_mean_gives_the_published_values(s: float, u: float, hm: float) -> None:
    """S and U of the AHSE paper's table."""
    assert harmonic_mean(s, u) == pytest.approx(hm, abs=0.01)


@given(st.integers(0, 10_000))
def test_beta_curve_is_what_ranking_with_shifted_distances_gives(seed: int) -> None:
    """Against adding beta to the seen columns and taking the nearest of all candidates."""
    random = np.random.default_rng(seed)
    seen, unseen = np.array([0, 2, 3]), np.array([1, 5])
    clips = [ClipDistances(random.random((20, 6)), random.choice(ids, 20)) for ids in (seen, unseen)]
    beta = np.linspace(0, 1, 7)
    curve = beta_curve(clips[0], clips[1], seen, unseen, beta)
    candidates = np.array([0, 1, 2, 3, 5])
    for i, b in enumerate(beta):
        shifted = [c.distances[:, candidates] + b * np.isin(candidates, seen) for c in clips]
        s, u = (
            mean_class_accuracy(candidates[d.argmin(1)], c.class_index)
            for d, c in zip(shifted, clips, strict=True)
        )
        assert (curve.seen[i], curve.unseen[i]) == (pytest.approx(s), pytest.approx(u))
        assert curve.harmonic[i] == pytest.approx(harmonic_mean(s, u))


def test_the_first_of_equally_good_betas_is_taken() -> None:
    """As the reference does."""
    clip = ClipDistances(np.array([[0.0, 9.0]]), np.array([0]))
    other = ClipDistances(np.array([[9.0, 0.0]]), np.array([1]))
    curve = beta_curve(clip, other, np.array([0]), np.array([1]), np.linspace(0, 5, 76))
    assert curve.best() == 0


def test_occurrences_count_each_clips_nearest_classes() -> None:
    """By hand, k = 1."""
    distances = np.array([[0.1, 0.2, 0.3], [0.1, 0.2, 0.3], [0.3, 0.1, 0.2]])
    np.testing.assert_array_equal(occurrences(distances, k=1), [2, 1, 0])


def test_hubness_is_the_skewness_of_the_occurrences() -> None:
    """Against scipy; a hub near every clip skews to the right."""
    random = np.random.default_rng(0)
    distances = random.random((500, 40))
    distances[:, 7] *= 0.1
    assert hubness(distances) == pytest.approx(skew(occurrences(distances)))
    assert hubness(distances) > 3
    assert hubness(np.ones((4, 5)), k=5) == 0.0


def test_calibration_error_is_the_weighted_gap_of_each_bin() -> None:
    """By hand: a bin of two at 0.9 with one right, a bin of two at 0.3 with none right."""
    confidence = np.array([0.9, 0.9, 0.3, 0.3])
    right = np.array([True, False, False, False])
    assert reliability(confidence, right, n_bins=10).calibration_error() == pytest.approx(
        (0.4 * 2 + 0.3 * 2) / 4
    )


@given(st.integers(0, 10_000))
def test_auroc_is_the_normalised_rank_sum(seed: int) -> None:
    """Against scipy's Mann-Whitney U, ties included."""
    random = np.random.default_rng(seed)
    negative, positive = random.integers(0, 8, 30).astype(float), random.integers(2, 10, 20).astype(float)
    u = mannwhitneyu(positive, negative).statistic
    assert auroc(negative, positive) == pytest.approx(u / 600)


def test_confusions_come_most_frequent_first_and_leave_out_what_is_right() -> None:
    """By hand."""
    actual, predicted = np.array([0, 0, 0, 1, 1, 2]), np.array([1, 1, 0, 2, 1, 2])
    assert confusions(predicted, actual) == [(0, 1, 2), (1, 2, 1)]
