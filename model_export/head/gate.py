"""Whether a trained head may change the ranking of the frozen encoders, and what that is certain to bring.

Clips are ranked by g x the embedding's distance + (1 - g) x the frozen distance; g is the gate. In each of
five folds a fifth of the seen and a fifth of the unseen validation classes are left out; weights and beta are
chosen on the clips of the others, for the gated and for the frozen ranking alike, and both are measured on
the clips that took no part in that choice. The gate opens only if the gain in HM over the frozen ranking is
above 0 with 95 % confidence, over resampled classes (bootstrap); else g is 0, and the head changes nothing.

Two things are not held out: the epoch was chosen with all of these clips, and what is served is the second
stage's head, trained anew on more clips in the same way. Over few classes such intervals are too narrow, so
below ten of either kind nothing is promised.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from model_export.data.gzsl_data import Indices, Reals
from model_export.head.distances import StageRanked, best_beta, fuse_ranked
from model_export.head.metrics import DIGITS, ClipDistances, harmonic_mean, nearest
from service.bundle.head_specs import Certificate

N_FOLDS: Final = 5
N_RESAMPLES: Final = 2000
N_PERMUTATIONS: Final = 199
MIN_CLASSES: Final = 10
"""Of either kind; with five the 95 % interval of simulated heads held the truth in 84 % of cases, with twelve
in 93 %."""
_TAIL: Final = 2.5  # per cent, on each side of the interval


@dataclass(frozen=True)
class Weighing:
    """How a ranking may weigh both distances.

    Attributes:
        visual_shares: Of the visual track in the frozen distance.
        raw_weights: Of the frozen distance.
    """

    visual_shares: Sequence[float]
    raw_weights: Sequence[float]


def certify(
    embedding: StageRanked, frozen: Mapping[float, StageRanked], served: Weighing, data: str
) -> Certificate:
    """Measure on held-out classes what the embedding brings over the frozen ranking.

    Args:
        embedding: Validation clips by the embedding.
        frozen: The same clips by the frozen encoders, for each share of the visual track that may be chosen.
        served: What the ranking with the head may choose from.
        data: Names the validation clips.
    """
    parts = (embedding.seen_clips, embedding.unseen_clips)
    seen, unseen = (len(np.unique(clips.class_index)) for clips in parts)
    gain = low = high = frozen_hm = None
    if min(seen, unseen) >= MIN_CLASSES:
        without = _held_out([[_Setting.of(raw) for raw in frozen.values()]])
        settings = [
            [_Setting.of(fuse_ranked(embedding, frozen[share], weight)) for weight in served.raw_weights]
            for share in served.visual_shares
        ]
        gains = resampled_gains(_held_out(settings), without)
        gain, low, high = (float(g) for g in (gains[0], *np.percentile(gains[1:], [_TAIL, 100 - _TAIL])))
        frozen_hm = 100 * harmonic_mean(*(float(part.mean()) for part in without))
    return Certificate(
        is_open=low is not None and low > 0,
        gain=gain,
        low=low,
        high=high,
        frozen_harmonic_mean=frozen_hm,
        n_seen_classes=seen,
        n_unseen_classes=unseen,
        n_clips=len(embedding.pooled().class_index),
        text_p=text_p(next(iter(frozen.values()))),
        data=data,
    )


def choose(harmonic: Reals) -> tuple[int, int]:
    """The row and column of the highest HM [shares, weights].

    Where several shares are equally good the first is taken, of weights the middle one: with few clips many
    weights reach the same HM, and next to the outermost ones it falls. Of two middle weights the smaller is
    taken, so that a head that is as good as the raw features is used.
    """
    rounded = np.round(harmonic, DIGITS)
    row = int(rounded.max(axis=1).argmax())
    equals = np.flatnonzero(rounded[row] == rounded.max())
    return row, int(equals[(len(equals) - 1) // 2])


@dataclass(frozen=True)
class _Clips:
    """Clips of seen, or of unseen classes, by one ranking.

    Attributes:
        margin: [n]; a clip is taken for a seen class where beta is at most this.
        right: bool [n, 2]: whether the nearest seen, and the nearest unseen class is right.
        class_index: int64 [n].
    """

    margin: Reals
    right: np.ndarray[tuple[int, int], np.dtype[np.bool_]]
    class_index: Indices

    @classmethod
    def of(cls, clips: ClipDistances, seen: Indices, unseen: Indices) -> _Clips:
        to_seen, to_unseen = (
            clips.distances[:, ids].min(axis=1).astype(np.float64) for ids in (seen, unseen)
        )
        right = [nearest(clips.distances, ids) == clips.class_index for ids in (seen, unseen)]
        return cls(to_unseen - to_seen, np.stack(right, axis=1), clips.class_index)

    def right_at(self, beta: Reals) -> Reals:
        """1 where a clip is ranked right, for each beta: [k, n]."""
        found: Reals = np.where(beta[:, None] <= self.margin, self.right[:, 0], self.right[:, 1]).astype(
            float
        )
        return found

    def by_class(self, right: Reals) -> Reals:
        """Accuracy of each class, sorted by id: [n_classes]."""
        _, position, count = np.unique(self.class_index, return_inverse=True, return_counts=True)
        accuracy: Reals = np.bincount(position, weights=right) / count
        return accuracy

    def fold_weights(self, n_folds: int) -> tuple[Indices, Reals]:
        """The fold of each clip [n], and its share of the mean over the classes of all others [n, folds]."""
        _, position, count = np.unique(self.class_index, return_inverse=True, return_counts=True)
        of_class = np.random.default_rng(0).permutation(len(count)) % n_folds
        others = of_class[:, None] != np.arange(n_folds)  # [classes, folds]
        share = others / (count[:, None] * others.sum(axis=0))
        return of_class[position], share[position]


@dataclass(frozen=True)
class _Setting:
    """One choice of weights: the ranking that it makes, for every beta."""

    beta: Reals
    seen: _Clips
    unseen: _Clips

    @classmethod
    def of(cls, ranked: StageRanked) -> _Setting:
        seen, unseen = (
            _Clips.of(part, ranked.seen, ranked.unseen) for part in (ranked.seen_clips, ranked.unseen_clips)
        )
        return cls(best_beta(ranked).beta, seen, unseen)

    def harmonics(self, seen_weight: Reals, unseen_weight: Reals) -> Reals:
        """HM, 0..1, for each beta on the classes of all folds but one: [k, folds]."""
        s = self.seen.right_at(self.beta) @ seen_weight
        u = self.unseen.right_at(self.beta) @ unseen_weight
        total = s + u
        harmonic: Reals = np.divide(2 * s * u, total, out=np.zeros_like(total), where=total > 0)
        return harmonic


Accuracies = tuple[Reals, Reals]
"""Of each seen and each unseen class, 0..1: [n_seen], [n_unseen]."""


def _held_out(settings: Sequence[Sequence[_Setting]]) -> Accuracies:
    """Choose setting [shares, weights] and beta of each fold by the classes of the others."""
    seen, unseen = settings[0][0].seen, settings[0][0].unseen
    (seen_fold, seen_weight), (unseen_fold, unseen_weight) = (c.fold_weights(N_FOLDS) for c in (seen, unseen))
    curves = [[one.harmonics(seen_weight, unseen_weight) for one in row] for row in settings]
    right = [np.zeros(len(seen_fold)), np.zeros(len(unseen_fold))]
    for fold in range(N_FOLDS):
        row, column = choose(np.array([[curve[:, fold].max() for curve in row] for row in curves]))
        chosen = settings[row][column]
        beta = chosen.beta[[curves[row][column][:, fold].argmax()]]
        right[0][seen_fold == fold] = chosen.seen.right_at(beta)[0, seen_fold == fold]
        right[1][unseen_fold == fold] = chosen.unseen.right_at(beta)[0, unseen_fold == fold]
    return seen.by_class(right[0]), unseen.by_class(right[1])


def resampled_gains(gated: Accuracies, frozen: Accuracies) -> Reals:
    """Gain in HM, 0..100: first of the classes as they are, then of each resample of them."""
    random = np.random.default_rng(0)

    def means(accuracy: Reals, rows: Indices) -> Reals:
        found: Reals = np.concatenate([[accuracy.mean()], accuracy[rows].mean(axis=1)])
        return found

    rows = [random.integers(len(part), size=(N_RESAMPLES, len(part))) for part in gated]
    harmonics = []
    for one in (gated, frozen):
        s, u = (means(part, row) for part, row in zip(one, rows, strict=True))
        harmonics.append(np.divide(2 * s * u, s + u, out=np.zeros_like(s), where=s + u > 0))
    gains: Reals = 100 * (harmonics[0] - harmonics[1])
    return gains


def text_p(frozen: StageRanked) -> float:
    """How likely texts that were dealt to the classes at random would fit the clips as well: 0.005 to 1.

    A permutation test of the frozen ranking's accuracy, seen clips among seen classes and unseen clips among
    unseen ones. Texts in the wrong order, or of other encoders, are as good as random ones.
    """
    random = np.random.default_rng(0)
    n_right = np.zeros(1 + N_PERMUTATIONS)
    for clips, ids in ((frozen.seen_clips, frozen.seen), (frozen.unseen_clips, frozen.unseen)):
        predicted = np.searchsorted(ids, nearest(clips.distances, ids))
        actual = np.searchsorted(ids, clips.class_index)
        dealt = np.stack(
            [np.arange(len(ids)), *(random.permutation(len(ids)) for _ in range(N_PERMUTATIONS))]
        )
        n_right += (dealt[:, predicted] == actual).mean(axis=1)
    return float((n_right >= n_right[0]).sum() / len(n_right))
