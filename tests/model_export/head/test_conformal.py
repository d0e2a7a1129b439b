"""Promises: against plain split conformal prediction, and against frequencies."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.special import softmax

from model_export.head import conformal
from model_export.head.calibration import Calibration
from model_export.head.conformal import cases, conformal_limits
from model_export.head.distances import StageRanked
from model_export.head.metrics import ClipDistances
from service.bundle.guarantees import MIN_PERCENT

CALIBRATION = Calibration(
    raw_weight=0,
    visual_share=0.5,
    beta=0.5,
    temperature=0.25,
    unknown_threshold=1,
    unknown_scale=1,
    seen=0,
    unseen=0,
    harmonic_mean=0,
    zsl=0,
)


def at(limits: tuple[float | None, ...], level: float) -> float | None:
    """The limit of one level."""
    return limits[round(100 * level) - MIN_PERCENT]


def stage(n_clips: int = 12, seed: int = 0) -> StageRanked:
    """Three seen and four unseen classes, with so many clips each, at random distances."""
    random = np.random.default_rng(seed)
    seen, unseen = np.array([0, 2, 4]), np.array([1, 3, 5, 6])

    def clips(ids: np.ndarray) -> ClipDistances:
        right = np.repeat(ids, n_clips)
        distances = random.uniform(1, 2, (len(right), 7))
        distances[np.arange(len(right)), right] -= 0.5
        return ClipDistances(distances, right)

    return StageRanked(clips(seen), clips(unseen), seen, unseen)


@pytest.mark.parametrize("n", [9, 19, 99, 1000])
def test_groups_of_one_are_plain_split_conformal_prediction(n: int) -> None:
    """The k-th smallest with k = ceil((n + 1) level), rounded up to four digits."""
    values = np.random.default_rng(n).exponential(size=n)
    found = conformal_limits(list(values[:, None]))
    for percent in range(50, 100):
        k = math.ceil((n + 1) * percent / 100 - 1e-9)
        expected = np.sort(values)[k - 1] if k <= n else None
        limit = at(found, percent / 100)
        assert (limit is None) == (expected is None), percent
        if limit is not None and expected is not None:
            assert 0 <= limit - expected < 1.001e-4


def test_every_group_weighs_the_same_however_large_it_is() -> None:
    """Nine groups, of which one has a thousand members that are all surprising."""
    groups = [np.array([float(i)]) for i in range(8)]
    alone = conformal_limits([*groups, np.array([100.0])])
    many = conformal_limits([*groups, np.full(1000, 100.0)])
    assert alone == many
    assert at(many, 0.8) == 7.0
    assert at(many, 0.9) == 100.0
    assert at(many, 0.91) is None


def test_guarantees_hold_for_new_groups() -> None:
    """Of a few groups whose members are alike. The plain quantile of all members would be too narrow."""
    random = np.random.default_rng(0)
    held, plain = [], []
    for _ in range(1000):
        groups = random.normal(size=(10, 1)) + 0.2 * random.normal(size=(10, 12))
        limit = at(conformal_limits(list(groups[:9])), 0.8)
        assert limit is not None
        held.append((groups[9] <= limit).mean())
        plain.append((groups[9] <= np.quantile(groups[:9], 0.8)).mean())
    assert 0.79 < np.mean(held) < 0.91
    assert np.mean(plain) < 0.77


def test_lists_hold_the_right_name_first_and_none_twice() -> None:
    """Mixed ones have a name of the other kind."""
    for case in cases(stage(), CALIBRATION):
        pool = {*case.same.tolist(), *case.other.tolist()}
        for n_names in case.lengths:
            lists = case._lists(n_names, np.random.default_rng(0))
            assert lists.shape == (len(case.class_index), n_names)
            assert (lists[:, 0] == case.class_index).all()
            for one in lists.tolist():
                assert len(set(one)) == n_names
                assert set(one) <= pool
            if case.among == "mixed":
                assert np.isin(lists, case.other).any(axis=1).all()


def test_a_surprise_is_that_of_the_score_with_beta() -> None:
    """Among all names: -ln softmax(-(distance + beta of seen) / temperature)."""
    ranked = stage()
    case = next(one for one in cases(ranked, CALIBRATION) if (one.kind, one.among) == ("unseen", "mixed"))
    stacked = ranked.unseen_clips.distances + CALIBRATION.beta * np.isin(np.arange(7), ranked.seen)
    scores = softmax(-stacked / CALIBRATION.temperature, axis=1)
    right = scores[np.arange(len(scores)), ranked.unseen_clips.class_index]
    found = next(iter(case.surprises(7)))
    np.testing.assert_allclose(found[:, 0], -np.log(right), rtol=1e-9)
    np.testing.assert_allclose(np.exp(-found).sum(axis=1), 1, rtol=1e-9)


def test_limits_tell_what_they_were_measured_on() -> None:
    """Clips of seen classes count one by one, of unseen ones whole classes."""
    limits = [one for case in cases(stage(), CALIBRATION) for one in case.limits("visual")]
    seen = next(one for one in limits if (one.kind, one.among, one.n_names) == ("seen", "same", 3))
    unseen = next(one for one in limits if (one.kind, one.among, one.n_names) == ("unseen", "mixed", 7))
    assert (seen.n_groups, seen.n_clips, seen.tracks) == (36, 36, "visual")
    assert (unseen.n_groups, unseen.n_clips) == (4, 48)
    assert seen.at(0.9) is not None
    assert unseen.at(0.9) is None  # four classes can't promise that
    assert unseen.at(0.8) is not None


def test_of_an_unseen_class_with_many_clips_some_are_taken() -> None:
    """Classes weigh the same in any case. Clips of seen classes stay in the proportions of the data."""
    found = {one.kind: one for one in cases(stage(n_clips=50), CALIBRATION)}
    assert len(found["seen"].class_index) == 150
    assert np.bincount(found["unseen"].class_index).max() == 20


def test_of_very_many_seen_clips_some_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """More would take minutes, and hardly move the limits."""
    monkeypatch.setattr(conformal, "MAX_SEEN_CLIPS", 10)
    limits = conformal.head_limits(stage(), CALIBRATION, "both")
    assert {one.n_clips for one in limits if one.kind == "seen"} == {10}


def test_a_stage_without_unseen_clips_promises_nothing_for_them() -> None:
    """What is not measured is not promised."""
    whole = stage()
    none = ClipDistances(whole.unseen_clips.distances[:0], whole.unseen_clips.class_index[:0])
    found = list(cases(StageRanked(whole.seen_clips, none, whole.seen, whole.unseen), CALIBRATION))
    assert {one.kind for one in found} == {"seen"}


def test_a_single_name_is_no_list() -> None:
    """It is right whatever is promised."""
    whole = stage()
    one = StageRanked(
        ClipDistances(whole.seen_clips.distances[:12], whole.seen_clips.class_index[:12]),
        whole.unseen_clips,
        whole.seen[:1],
        whole.unseen,
    )
    found = {(case.kind, case.among): case.lengths for case in cases(one, CALIBRATION)}
    assert found["seen", "same"] == ()
    assert found["seen", "mixed"] == (2, 3, 5)
