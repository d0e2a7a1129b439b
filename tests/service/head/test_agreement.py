"""Agreement of both tracks, against Bayes' rule written out."""

from __future__ import annotations

import numpy as np
import pytest

from service.arrays import Array
from service.bundle.head_specs import AgreementScore, SimilaritySpec
from service.encode.features import ClipFeatures, TextFeatures
from service.head.agreement import Agreement, Overlap, agreement, log_factor
from service.head.head import cosines_of
from service.head.similarity import SimilarityHead
from tests.toy import not_fitted

SCORE = AgreementScore(visual_temperature=1.0, audio_temperature=0.5, threshold=0.0, scale=1.0)


def _floats(*values: float) -> Array:
    return np.array(values, np.float32)


def compare(visual: Array, audio: Array, stored: AgreementScore) -> Agreement:
    """By names that come in blocks of two."""
    overlap = Overlap(stored)
    for start in range(0, len(visual), 2):
        overlap.add(visual[start : start + 2], audio[start : start + 2])
    found = overlap.agreement()
    assert found is not None
    return found


def test_the_factor_is_that_of_a_shared_name() -> None:
    """P(both tracks | one name) / P(both tracks | a name each), names being equally likely before."""
    random = np.random.default_rng(0)
    p, q = random.dirichlet(np.ones(6)), random.dirichlet(np.ones(6))
    doubtful = [0.99 * one + 0.01 / 6 for one in (p, q)]
    together = sum(doubtful[0][i] * doubtful[1][i] / (1 / 6) for i in range(6))
    assert log_factor(float(p @ q), 6) == pytest.approx(np.log(together), rel=1e-9)


def test_tracks_that_name_the_same_agree() -> None:
    """The picture is surer here."""
    found = compare(_floats(9, 0, 0), _floats(4, 0, 0), SCORE)
    assert found.score > 0.7
    assert (found.visual_first, found.audio_first, found.surer) == (0, 0, "visual")


def test_tracks_that_name_different_things_do_not() -> None:
    """The sound is surer here, by its lower temperature."""
    found = compare(_floats(5, 0, 0), _floats(0, 4, 0), SCORE)
    assert found.score < 0.1
    assert (found.visual_first, found.audio_first, found.surer) == (0, 1, "audio")


def test_a_track_that_tells_nothing_neither_agrees_nor_contradicts() -> None:
    """Its names are equally likely."""
    assert compare(_floats(9, 0, 0), _floats(0, 0, 0), SCORE).score == pytest.approx(0.5, abs=1e-6)


def test_the_stored_numbers_say_what_a_factor_means() -> None:
    """The log-odds are moved and divided."""
    shifted = SCORE.model_copy(update={"threshold": 1.0, "scale": 2.0})
    plain, other = (compare(_floats(5, 0, 0), _floats(0, 4, 0), one).score for one in (SCORE, shifted))
    factor = np.log(plain / (1 - plain))
    assert np.log(other / (1 - other)) == pytest.approx((factor - 1) / 2)


@pytest.mark.parametrize(
    ("visual", "audio", "n", "stored"),
    [(False, True, 3, SCORE), (True, False, 3, SCORE), (True, True, 1, SCORE), (True, True, 3, None)],
)
def test_nothing_is_said_where_nothing_can_be(
    *, visual: bool, audio: bool, n: int, stored: AgreementScore | None
) -> None:
    """One track, one name, or a bundle that does not know."""
    spec = SimilaritySpec(kind="similarity", visual_share=0.5, n_clips=0, agreement=stored)
    head = SimilarityHead(spec, not_fitted(3, 10.0, 3, 10.0), 10.0, 10.0)
    texts = TextFeatures(np.eye(3, dtype=np.float32)[:n], np.eye(3, dtype=np.float32)[:n])
    feature = _floats(1, 0, 0)
    clip = ClipFeatures(feature if visual else None, feature if audio else None)
    assert agreement(head, clip, cosines_of(clip, texts), head.embed_names(texts)) is None
