"""Which names an answer must keep, worked out by hand."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from pydantic import ValidationError

from service.bundle.guarantees import Among, Guarantees, Kind, Limits, limit_for
from service.guarantee import KeptNames, keep_names
from service.ranking import Ranking, Scoring, rank

SCORES = (0.6, 0.3, 0.06, 0.04)


def limits(at_90: float | None, n_names: int = 4, kind: Kind = "unseen", among: Among = "same") -> Limits:
    """The same limit for all promises up to 90 %, none for higher ones."""
    surprise = (*[at_90] * 41, *[None] * 9)
    return Limits(
        tracks="both", kind=kind, among=among, n_names=n_names, n_groups=12, n_clips=60, surprise=surprise
    )


def ranking(scores: Sequence[float] = SCORES) -> Ranking:
    """Names with these scores."""
    distance = -np.log(np.array(scores, np.float32))
    return rank(distance, np.zeros(len(scores), bool), Scoring(1.0), 0.0)


def promised(stored: Sequence[Limits], level: float = 0.9, seen: Sequence[bool] = (False,) * 4) -> KeptNames:
    """A promise about the four names."""
    data = Guarantees(data="validation clips", limits=tuple(stored))
    return keep_names(ranking(), np.array(seen), "both", data, level)


def kept(found: KeptNames) -> list[int] | None:
    """The names as a list."""
    return None if found.kept is None else found.kept.tolist()


def test_names_up_to_the_limit_are_kept_best_first() -> None:
    """With a limit just below and just above the surprise of a name."""
    assert kept(promised([limits(-math.log(0.29))])) == [0, 1]
    assert kept(promised([limits(-math.log(0.31))])) == [0]
    assert kept(promised([limits(-math.log(0.03))])) == [0, 1, 2, 3]


def test_the_best_name_is_kept_whatever_the_limit() -> None:
    """A set without names would promise nothing."""
    assert kept(promised([limits(0.0)])) == [0]


def test_nothing_is_promised_that_was_not_measured() -> None:
    """Too high a promise, too long a list, other tracks, no file at all: no name may be excluded."""
    too_high = promised([limits(1.0)], level=0.91)
    assert kept(too_high) is None
    assert "12 independent groups of clips are too few for 91%" in too_high.holds_for
    too_long = promised([limits(1.0, n_names=3)])
    assert kept(too_long) is None
    assert "at most 3 names" in too_long.holds_for
    data = Guarantees(data="validation clips", limits=(limits(1.0),))
    other = keep_names(ranking(), np.zeros(4, bool), "audio", data, 0.9)
    assert kept(other) is None
    assert "it was not measured what can be guaranteed of such clips" in other.holds_for
    assert kept(keep_names(ranking(), np.zeros(4, bool), "both", None, 0.9)) is None


def test_seen_and_unseen_names_have_limits_of_their_own() -> None:
    """Names of a kind without a limit are all kept, and the answer says why."""
    stored = [
        limits(-math.log(0.5), kind="seen", among="mixed"),
        limits(-math.log(0.05), kind="unseen", among="mixed"),
    ]
    both = (True, True, False, False)
    assert kept(promised(stored, seen=both)) == [0, 2]
    without = promised(stored[:1], seen=both)
    assert kept(without) == [0, 2, 3]
    assert "60 of classes trained on)" in without.holds_for
    assert "Names of classes not trained on are all kept: it was not measured" in without.holds_for


def test_among_both_kinds_the_laxer_limit_counts() -> None:
    """How many names of each kind a list has is not known before; shorter lists of one kind say nothing."""
    mixed = limits(-math.log(0.05), among="mixed"), limits(-math.log(0.5), kind="seen", among="mixed")
    seen = (True, False, False, False)
    assert kept(promised(mixed, seen=seen)) == [0, 1, 2]
    assert kept(promised([*mixed, limits(-math.log(0.03))], seen=seen)) == [0, 1, 2, 3]
    assert kept(promised([*mixed, limits(-math.log(0.2))], seen=seen)) == [0, 1, 2]
    assert kept(promised([*mixed, limits(-math.log(0.03), n_names=3)], seen=seen)) == [0, 1, 2]


def test_a_promise_says_for_what_it_holds() -> None:
    """On how many clips of what, and for how long lists."""
    text = promised([limits(1.0, n_names=2), limits(1.0, n_names=10)]).holds_for
    assert "(validation clips: 60 of 12 classes not trained on), in lists of 2 to 10 names" in text


def test_between_two_lengths_the_laxer_limit_counts() -> None:
    """And beyond the longest none does."""
    measured = [limits(1.0, n_names=2), limits(2.0, n_names=10)]
    assert [limit_for(measured, n, 0.9) for n in (1, 2, 3, 10, 11)] == [1.0, 1.0, 2.0, 2.0, None]
    assert limit_for([limits(1.0, n_names=2), limits(None, n_names=10)], 3, 0.9) is None


def test_a_longer_list_never_has_a_stricter_limit() -> None:
    """Also where longer lists were of easier names: what was added can't make the right one likelier."""
    measured = [limits(2.0, n_names=2), limits(1.0, n_names=10), limits(1.5, n_names=20)]
    assert [limit_for(measured, n, 0.9) for n in (2, 10, 11, 20)] == [2.0] * 4


def test_a_level_between_two_is_as_strict_as_the_higher() -> None:
    """Whole per cents are stored."""
    rising = Limits(
        tracks="both",
        kind="unseen",
        among="same",
        n_names=2,
        n_groups=99,
        n_clips=99,
        surprise=tuple(float(one) for one in range(50)),
    )
    assert [rising.at(level) for level in (0.5, 0.501, 0.9, 0.99)] == [0, 1, 40, 49]


def test_limits_that_fall_are_refused() -> None:
    """As are too few of them."""
    with pytest.raises(ValidationError, match="must not fall"):
        Limits(
            tracks="both",
            kind="unseen",
            among="same",
            n_names=2,
            n_groups=9,
            n_clips=9,
            surprise=(None, *[1.0] * 49),
        )
    with pytest.raises(ValidationError, match="for each per cent"):
        Limits(tracks="both", kind="unseen", among="same", n_names=2, n_groups=9, n_clips=9, surprise=(1.0,))
