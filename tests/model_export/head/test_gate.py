"""The gate opens for a head that brings something, and for no other; the certificate says what that is."""

from __future__ import annotations

import numpy as np
import pytest

from model_export.data.gzsl_data import Reals
from model_export.head import gate
from model_export.head.calibration import RAW_WEIGHTS
from model_export.head.distances import StageRanked, best_beta, fuse_ranked
from model_export.head.gate import Weighing, certify
from model_export.head.metrics import ClipDistances, harmonic_mean
from service.bundle.head_specs import Certificate

SEEN, UNSEEN = np.arange(20), np.arange(20, 32)


def ranked(noise: float, seed: int, n_clips: int = 6, signal: float = 1.0) -> StageRanked:
    """Clips of 20 seen and 12 unseen classes; the own class is nearer by `signal`, under noise."""
    random = np.random.default_rng(seed)

    def clips(ids: np.ndarray[tuple[int], np.dtype[np.int64]]) -> ClipDistances:
        own = np.repeat(ids, n_clips)
        distances = 10 + noise * random.normal(size=(len(own), 32))
        distances[np.arange(len(own)), own] -= signal
        return ClipDistances(distances, own)

    return StageRanked(clips(SEEN), clips(UNSEEN), SEEN, UNSEEN)


def certificate(embedding: StageRanked, frozen: StageRanked) -> Certificate:
    """With one share of the visual track."""
    return certify(embedding, {0.5: frozen}, Weighing((0.5,), RAW_WEIGHTS), "validation clips of a test")


def test_the_gate_opens_for_a_head_that_sees_what_the_encoders_do_not() -> None:
    """The certificate has the gain with its interval, and what it was measured on."""
    found = certificate(ranked(0.3, 1), ranked(0.7, 2))
    assert found.is_open
    assert found.gain is not None
    assert found.low is not None
    assert found.high is not None
    assert found.frozen_harmonic_mean is not None
    assert 0 < found.low < found.gain < found.high
    assert found.frozen_harmonic_mean + found.gain > 90
    assert (found.n_seen_classes, found.n_unseen_classes, found.n_clips) == (20, 12, 192)
    assert found.text_p == 0.005
    assert found.data == "validation clips of a test"


@pytest.mark.parametrize("seed", range(10))
def test_the_gate_stays_closed_for_a_head_that_knows_nothing(seed: int) -> None:
    """Among many weights some are better by chance on validation; on held-out classes they are not."""
    frozen = ranked(0.7, 100)
    useless = ranked(1.0, seed, signal=0.0)
    found = certificate(useless, frozen)
    assert not found.is_open
    assert found.low is not None
    assert found.low <= 0


def test_a_head_that_ranks_as_the_encoders_do_brings_nothing() -> None:
    """Exactly 0, so the gate is closed."""
    frozen = ranked(0.5, 0)
    found = certificate(frozen, frozen)
    assert (found.is_open, found.gain, found.low, found.high) == (False, 0, 0, 0)


def test_a_validation_that_is_too_small_promises_nothing() -> None:
    """Over one unseen class there is no interval, and over a few it would be too narrow."""
    one = np.array([20])
    small = [
        StageRanked(
            part.seen_clips,
            ClipDistances(part.unseen_clips.distances[:6], part.unseen_clips.class_index[:6]),
            SEEN,
            one,
        )
        for part in (ranked(0.1, 0), ranked(0.9, 1))
    ]
    found = certificate(*small)
    assert (found.is_open, found.gain, found.frozen_harmonic_mean) == (False, None, None)
    assert found.in_words.startswith("too few classes to say what the head brings (")


def test_held_out_accuracies_are_those_of_plain_loops() -> None:
    """Fold by fold, weight by weight, beta by beta, with the classes of the fold left out of the choice."""
    embedding, frozen, n_folds = ranked(0.6, 3), ranked(0.7, 4), gate.N_FOLDS
    weights = (0.0, 0.5, 1.0)
    settings = [fuse_ranked(embedding, frozen, weight) for weight in weights]
    seen, unseen = gate._held_out([[gate._Setting.of(one) for one in settings]])
    folds = [np.random.default_rng(0).permutation(len(ids)) % n_folds for ids in (SEEN, UNSEEN)]
    expected = [np.zeros(len(ids)) for ids in (SEEN, UNSEEN)]

    def accuracies(one: StageRanked, beta: float) -> list[Reals]:
        result = []
        for clips, ids in ((one.seen_clips, SEEN), (one.unseen_clips, UNSEEN)):
            stacked = clips.distances + beta * np.isin(np.arange(32), SEEN)
            right = stacked.argmin(axis=1) == clips.class_index
            result.append(np.array([right[clips.class_index == c].mean() for c in ids]))
        return result

    for fold in range(n_folds):
        best: list[tuple[float, list[Reals]]] = []
        for one in settings:
            tried = [accuracies(one, beta) for beta in best_beta(one).beta]
            means = [harmonic_mean(s[folds[0] != fold].mean(), u[folds[1] != fold].mean()) for s, u in tried]
            best.append((max(means), tried[int(np.argmax(means))]))
        # Of weights that are equally good the middle one.
        equals = [parts for value, parts in best if value > max(b[0] for b in best) - 1e-10]
        s, u = equals[(len(equals) - 1) // 2]
        expected[0][folds[0] == fold] = s[folds[0] == fold]
        expected[1][folds[1] == fold] = u[folds[1] == fold]
    np.testing.assert_allclose(seen, expected[0])
    np.testing.assert_allclose(unseen, expected[1])


def test_texts_in_the_wrong_order_are_found() -> None:
    """The frozen ranking is then no better than one with texts that were dealt at random."""
    right = ranked(0.5, 0)
    random = np.random.default_rng(5)
    order = np.concatenate([random.permutation(SEEN), random.permutation(UNSEEN)])
    seen, unseen = (
        ClipDistances(part.distances[:, order], part.class_index)
        for part in (right.seen_clips, right.unseen_clips)
    )
    wrong = StageRanked(seen, unseen, SEEN, UNSEEN)
    assert gate.text_p(right) == 0.005
    assert gate.text_p(wrong) > 0.05
