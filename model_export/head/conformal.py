"""What can be guaranteed of answers: limits that a bundle stores (service/bundle/guarantees.py).

Validation clips are ranked among lists of names drawn at random, of several lengths, by the first stage's
head, to whose training they did not belong. Clips of a seen class count one by one; of unseen classes whole
classes count, since the names that users bring are new classes, not new clips of these.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from scipy.special import logsumexp

from model_export.data.gzsl_data import Indices, Reals
from model_export.head.calibration import Calibration
from model_export.head.distances import StageRanked
from model_export.head.metrics import ClipDistances
from service.bundle.guarantees import MAX_PERCENT, MIN_PERCENT, Among, Kind, Limits
from service.media import Tracks

LENGTHS: Final = (2, 3, 5, 10, 20, 50, 100, 200, 500, 1000)
N_DRAWS: Final = 10
MAX_SEEN_CLIPS: Final = 2000
MAX_CLIPS_PER_CLASS: Final = 20
_STEP: Final = 1e-4  # limits are rounded up to it


def conformal_limits(groups: Sequence[Reals]) -> tuple[float | None, ...]:
    """The smallest limits that hold for guarantees of 50, 51, ... 99 per cent for a member of a new group.

    Each of K groups weighs 1 / (K + 1), shared out over its members, and 1 / (K + 1) lies at infinity
    (hierarchical conformal prediction; with groups of one it is plain split conformal prediction).

    Args:
        groups: Measures of surprise of the members of each group.

    Returns:
        None where the groups are too few.
    """
    values = np.concatenate(groups)
    weights = np.concatenate([np.full(len(one), 1 / ((len(groups) + 1) * len(one))) for one in groups])
    order = np.argsort(values)
    reached = np.cumsum(weights[order])
    found: list[float | None] = []
    for percent in range(MIN_PERCENT, MAX_PERCENT + 1):
        at = int(np.searchsorted(reached, percent / 100 - 1e-9))
        found.append(None if at == len(values) else math.ceil(values[order[at]] / _STEP) * _STEP)
    return tuple(None if one is None else round(one, 4) for one in found)


def head_limits(ranked: StageRanked, calibration: Calibration, tracks: Tracks) -> Iterator[Limits]:
    """Limits for each kind of right name and each length of list.

    Args:
        ranked: Clips of the stage by the ranking that is served.
        calibration: Of that ranking.
        tracks: What the clips have.
    """
    some = replace(ranked, seen_clips=_some(ranked.seen_clips))
    for case in cases(some, calibration):
        yield from case.limits(tracks)


@dataclass(frozen=True)
class Case:
    """Clips whose right names are of one kind, and the names that they are ranked among.

    Attributes:
        kind: Of the right names.
        among: Whether lists have names of that kind only.
        logits: float64 [n, n_classes]; softmax over the names of a list gives their scores.
        class_index: int64 [n], the right class.
        same: Ids of the classes of that kind.
        other: Ids of the others, of which mixed lists have at least one.
        lengths: How many names lists have.
    """

    kind: Kind
    among: Among
    logits: Reals
    class_index: Indices
    same: Indices
    other: Indices
    lengths: tuple[int, ...]

    def groups(self) -> list[Indices]:
        """Rows of clips that count as one: each clip of a seen class, all clips of an unseen one."""
        if self.kind == "seen":
            return list(np.arange(len(self.class_index))[:, None])
        return [np.flatnonzero(self.class_index == c) for c in np.unique(self.class_index)]

    def surprises(self, n_names: int) -> Iterator[Reals]:
        """-ln(score) of the names of a random list for each clip, [n, n_names], the right one first.

        N_DRAWS times.
        """
        random = np.random.default_rng(n_names)
        for _ in range(N_DRAWS):
            chosen = np.take_along_axis(self.logits, self._lists(n_names, random), axis=1)
            yield logsumexp(chosen, axis=1, keepdims=True) - chosen

    def limits(self, tracks: Tracks) -> Iterator[Limits]:
        """For lists of each length."""
        for n_names in self.lengths:
            right = np.stack([one[:, 0] for one in self.surprises(n_names)], axis=1)
            groups = [right[rows].ravel() for rows in self.groups()]
            yield Limits(
                tracks=tracks,
                kind=self.kind,
                among=self.among,
                n_names=n_names,
                n_groups=len(groups),
                n_clips=len(right),
                surprise=conformal_limits(groups),
            )

    def _lists(self, n_names: int, random: np.random.Generator) -> Indices:
        """A list for each clip, [n, n_names]: its own class first; in mixed ones one of the others next."""
        pool, n = np.concatenate([self.same, self.other]), len(self.class_index)
        keys = random.random((n, len(pool)))
        keys[pool == self.class_index[:, None]] = -2
        if self.among == "mixed":
            keys[np.arange(n), len(self.same) + random.integers(len(self.other), size=n)] = -1
        lists: Indices = pool[np.argsort(keys, axis=1)[:, :n_names]]
        return lists


def cases(ranked: StageRanked, calibration: Calibration) -> Iterator[Case]:
    """Both kinds of right names, among their own kind and among both."""
    parts: tuple[tuple[Kind, ClipDistances, Indices, Indices], ...] = (
        ("seen", ranked.seen_clips, ranked.seen, ranked.unseen),
        ("unseen", ranked.unseen_clips, ranked.unseen, ranked.seen),
    )
    for kind, clips, same, other in parts:
        few = clips if kind == "seen" else _few_of_each_class(clips)
        if len(few.class_index):
            stacked = few.distances.astype(np.float64)
            stacked[:, ranked.seen] += calibration.beta
            logits = -stacked / calibration.temperature
            lengths, all_lengths = _lengths(len(same)), _lengths(len(same) + len(other))
            yield Case(kind, "same", logits, few.class_index, same, other[:0], lengths)
            yield Case(kind, "mixed", logits, few.class_index, same, other, all_lengths)


def _lengths(longest: int) -> tuple[int, ...]:
    """Those of LENGTHS, and the longest, which has all names; none of a single name."""
    return (*(n for n in LENGTHS if n < longest), longest) if longest > 1 else ()


def _some(clips: ClipDistances) -> ClipDistances:
    """At most MAX_SEEN_CLIPS, drawn at random.

    More take minutes, and with so many a promise of 99 % has a standard error of 0.2 points.
    """
    n = len(clips.class_index)
    rows = np.sort(np.random.default_rng(0).choice(n, min(n, MAX_SEEN_CLIPS), replace=False))
    return ClipDistances(clips.distances[rows], clips.class_index[rows])


def _few_of_each_class(clips: ClipDistances) -> ClipDistances:
    """At most MAX_CLIPS_PER_CLASS of each class, drawn at random: classes weigh the same in any case."""
    random, kept = np.random.default_rng(0), list[Indices]()
    for c in np.unique(clips.class_index):
        kept.append(random.permutation(np.flatnonzero(clips.class_index == c))[:MAX_CLIPS_PER_CLASS])
    rows = np.sort(np.concatenate(kept)) if kept else np.zeros(0, np.int64)
    return ClipDistances(clips.distances[rows], clips.class_index[rows])
