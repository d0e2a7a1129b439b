"""Distances, calibrated stacking and scores against scipy and against laws."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import cdist
from scipy.special import softmax as scipy_softmax

from service.ranking import Scoring, UnknownScore, beta_of, rank, score_track, softmax

RNG = np.random.default_rng(3)
STORED = Scoring(temperature=0.3, beta=0.7, unknown=UnknownScore(threshold=0.7, scale=0.1))
CLIP = RNG.normal(size=8).astype(np.float32)
CANDIDATES = RNG.normal(size=(30, 8)).astype(np.float32)
SEEN = RNG.random(30) < 0.5
DISTANCE = cdist(CLIP[None], CANDIDATES)[0].astype(np.float32)


def test_distances_and_scores_agree_with_scipy() -> None:
    """Distance plus beta for seen classes; softmax over negative distances."""
    ranking = rank(DISTANCE, SEEN, STORED, STORED.beta)
    expected = DISTANCE + 0.7 * SEEN
    np.testing.assert_allclose(ranking.distance, expected, rtol=1e-5)
    assert ranking.best().tolist() == np.argsort(expected).tolist()
    np.testing.assert_allclose(ranking.score, scipy_softmax(-expected / 0.3), rtol=1e-4)


@given(beta=st.floats(0, 50))
def test_more_beta_never_helps_a_seen_class(beta: float) -> None:
    """Calibrated stacking is monotone: the best seen class can only fall behind."""
    free = rank(DISTANCE, SEEN, STORED, beta=0)
    held = rank(DISTANCE, SEEN, STORED, beta=beta)
    place = {index: position for position, index in enumerate(held.best().tolist())}
    for position, index in enumerate(free.best().tolist()):
        if SEEN[index]:
            assert place[index] >= position


def test_equal_distances_keep_the_order_of_the_request() -> None:
    """The response must not depend on the sorting algorithm."""
    ranking = rank(np.full(5, 1.5, np.float32), np.zeros(5, bool), STORED, STORED.beta)
    assert ranking.best().tolist() == [0, 1, 2, 3, 4]


@given(n=st.integers(1, 40), values=st.lists(st.sampled_from([0.5, 1.0, 1.5, 2.0]), min_size=1, max_size=40))
def test_the_best_k_are_the_first_k_of_the_whole_ranking(n: int, values: list[float]) -> None:
    """Also where equal distances straddle the cut."""
    ranking = rank(np.array(values, np.float32), np.zeros(len(values), bool), STORED, STORED.beta)
    assert ranking.best(n).tolist() == ranking.best().tolist()[:n]


def test_scores_of_far_candidates_stay_finite() -> None:
    """Exp must not overflow however small the temperature is."""
    ranking = rank(DISTANCE * np.float32(1e6), SEEN, STORED, STORED.beta)
    assert np.isfinite(ranking.score).all()
    assert ranking.unknown == pytest.approx(1)
    assert ranking.score.sum() == pytest.approx(1)


def test_unknown_depends_on_the_nearest_distance_without_beta() -> None:
    """It is one half at the stored threshold, whatever beta is."""
    distance = np.array([0.7, 3.0], np.float32)
    for beta in (0.0, 9.0):
        assert rank(distance, np.array([True, True]), STORED, beta).unknown == pytest.approx(0.5, abs=1e-6)
    nearer = rank(distance - 0.5, np.array([True, True]), STORED, STORED.beta).unknown
    assert nearer is not None
    assert nearer < 0.01


def test_scores_of_a_track_are_a_softmax_of_scaled_cosines() -> None:
    """The softmax of cosine times logit scale, as CLIP scores images."""
    texts = CANDIDATES / np.linalg.norm(CANDIDATES, axis=1, keepdims=True)
    feature = CLIP / np.linalg.norm(CLIP)
    scores = score_track(texts @ feature, 100.0)
    np.testing.assert_allclose(scores.similarity, 1 - cdist(CLIP[None], CANDIDATES, "cosine")[0], atol=1e-6)
    np.testing.assert_allclose(scores.score, scipy_softmax(100 * scores.similarity), rtol=1e-3, atol=1e-6)


def test_a_single_candidate_has_score_one() -> None:
    """The softmax of one value is 1."""
    assert softmax(np.array([-40.0], np.float32)).tolist() == [1.0]


@pytest.mark.parametrize(("sent", "beta"), [("auto", 2.5), ("off", 0.0), (1.25, 1.25), (0.0, 0.0)])
def test_the_calibration_option_selects_beta(sent: object, beta: float) -> None:
    """`auto` is the beta of the bundle, `off` is 0, a number is itself."""
    assert beta_of(sent, stored=2.5) == beta  # type: ignore[arg-type]  # parametrised union
