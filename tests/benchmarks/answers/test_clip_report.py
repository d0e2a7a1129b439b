"""The statistics of the report, against other implementations and by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.metrics import roc_auc_score

from benchmarks.answers.clip_report import auroc, count, reliability, wilson
from benchmarks.answers.ranked_lists import Answers


def _answers(is_first: list[list[bool]], score: list[list[float]], unknown: float = 0.0) -> Answers:
    first, scores = np.array(is_first), np.array(score)
    measures = np.full(scores.shape, unknown), np.full(scores.shape, unknown)
    return Answers(10, np.zeros(first.shape, np.int64), first, first, scores, *measures)


def test_wilson_of_22_of_29() -> None:
    """The known interval, and the two shares at which the score test of 22 of 29 is just significant."""
    low, high = wilson(22, 29)
    assert (low, high) == pytest.approx((0.57892, 0.87782), abs=1e-5)
    for share in (low, high):
        assert abs(22 / 29 - share) / np.sqrt(share * (1 - share) / 29) == pytest.approx(1.959964)


@pytest.mark.parametrize(("n_right", "n"), [(0, 29), (29, 29), (1, 3), (52, 87), (200, 400)])
def test_wilson_is_that_of_scipy(n_right: int, n: int) -> None:
    """Also where none or all are right."""
    interval = binomtest(n_right, n).proportion_ci(method="wilson")
    assert wilson(n_right, n) == pytest.approx((interval.low, interval.high), abs=1e-9)


def test_auroc_is_that_of_sklearn_with_equals() -> None:
    """Rounded numbers have many equals; the shapes don't matter."""
    random = np.random.default_rng(0)
    higher, lower = random.normal(0.5, 1, (20, 3)).round(1), random.normal(0, 1, 90).round(1)
    is_higher = [1] * higher.size + [0] * lower.size
    expected = roc_auc_score(is_higher, np.concatenate([higher.ravel(), lower]))
    assert auroc(higher, lower) == pytest.approx(expected)


def test_auroc_is_none_without_a_measure() -> None:
    """NaN stands for bundles that have no `unknown`."""
    assert auroc(np.array([0.5, np.nan]), np.array([0.1])) is None
    assert reliability(_answers([[True]], [[0.5]], unknown=float("nan"))).unknown_auroc is None


def test_draws_make_a_mean_and_no_narrower_interval() -> None:
    """Three clips, two draws: 2.5 right, with the interval of three clips."""
    found = count(np.array([[True, True], [True, False], [True, True]]))
    assert (found.n_right, found.n) == (2.5, 3)
    assert (found.low, found.high) == wilson(2.5, 3)


def test_calibration_error_by_hand() -> None:
    """One bin holds 0.9 and 0.95, one of them right; the other 1.0, wrong, which counts with 0.9 to 1."""
    found = reliability(_answers([[True], [False], [False], [True]], [[0.9], [0.95], [1.0], [0.25]]))
    assert found.n_in_bin == (0, 0, 1, 0, 0, 0, 0, 0, 0, 3)
    assert found.n_right_in_bin == (0, 0, 1, 0, 0, 0, 0, 0, 0, 1)
    assert found.calibration_error == pytest.approx((abs(1 - 0.25) + abs(1 - 2.85)) / 4)
    assert found.mean_score == pytest.approx(3.1 / 4)


def test_scores_that_are_the_share_of_right_answers_have_no_calibration_error() -> None:
    """Three of four right at 0.75."""
    found = reliability(_answers([[True], [True], [True], [False]], [[0.75]] * 4))
    assert found.calibration_error == pytest.approx(0)
