"""Whether a trained head may change the ranking of the frozen encoders, and what that is certain to bring.

Clips are ranked by g x the embedding's distance + (1 - g) x the frozen distance; g is the gate. It is fitted
on validation clips with classes held out: in each of five folds a fifth of the seen and a fifth of the unseen
classes, weights and beta are chosen on the clips of the other classes, for the gated and for the frozen
ranking alike, and both are measured on the clips that took no part. The gate opens only if the gain in HM
over the frozen ranking is above 0 with 95 % confidence, over resampled classes (bootstrap); else g is 0, and
the head changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import numpy as np

from model_export.data.gzsl_data import Indices, Reals
from model_export.head.distances import StageRanked, best_beta, fuse_ranked
from model_export.head.metrics import Ranked, harmonic_mean, nearest
from service.bundle.head_specs import Certificate

N_FOLDS: Final = 5
N_RESAMPLES: Final = 2000
N_PERMUTATIONS: Final = 199
_TAIL: Final = 2.5  # per cent, on each side of the interval


def certify(
    embedding: StageRanked, frozen: Mapping[float, StageRanked], raw_weights: Sequence[float], data: str
) -> Certificate:
    """Measure on held-out classes what the embedding brings over the frozen ranking.

    Args:
        embedding: Validation clips by the embedding.
        frozen: The same clips by the frozen encoders, for each share of the visual track.
        raw_weights: Weights of the frozen distance to choose from; 1 is among them.
        data: Names the validation clips.
    """
    parts = (embedding.seen_clips, embedding.unseen_clips)
    seen, unseen = (len(np.unique(clips.class_index)) for clips in parts)
    folds = min(N_FOLDS, seen, unseen)
    gain = low = high = 0.0
    held_out = _HeldOut(np.zeros(0), np.zeros(0))
    if folds > 1:
        settings = [
            _Setting.of(fuse_ranked(embedding, raw, weight), is_frozen=weight == 1)
            for raw in frozen.values()
            for weight in raw_weights
        ]
        held_out = _held_out([one for one in settings if one.is_frozen], folds)
        gains = _resampled_gains(_held_out(settings, folds), held_out)
        gain, low, high = gains[0], *np.percentile(gains[1:], [_TAIL, 100 - _TAIL])
    return Certificate(
        is_open=low > 0,
        gain=gain,
        low=low,
        high=high,
        frozen_harmonic_mean=held_out.harmonic_mean(),
        n_seen_classes=seen,
        n_unseen_classes=unseen,
        n_clips=len(embedding.pooled().class_index),
        text_p=text_p(next(iter(frozen.values()))),
        data=data,
        measured=datetime.now(UTC).date(),
    )


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
    def of(cls, clips: Ranked, seen: Indices, unseen: Indices) -> _Clips:
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
    is_frozen: bool

    @classmethod
    def of(cls, ranked: StageRanked, *, is_frozen: bool) -> _Setting:
        seen, unseen = (
            _Clips.of(part, ranked.seen, ranked.unseen) for part in (ranked.seen_clips, ranked.unseen_clips)
        )
        return cls(best_beta(ranked).beta, seen, unseen, is_frozen)


@dataclass(frozen=True)
class _HeldOut:
    """Accuracy of each class by settings that were chosen without it: [n_seen], [n_unseen], 0..1."""

    seen: Reals
    unseen: Reals

    def harmonic_mean(self) -> float:
        """HM, 0..100; 0 where nothing was measured."""
        if not len(self.seen):
            return 0.0
        return 100 * harmonic_mean(float(self.seen.mean()), float(self.unseen.mean()))


def _held_out(settings: Sequence[_Setting], n_folds: int) -> _HeldOut:
    """In each fold take the setting and beta with the highest HM on the classes of the others."""
    seen, unseen = settings[0].seen, settings[0].unseen
    (seen_fold, seen_weight), (unseen_fold, unseen_weight) = (c.fold_weights(n_folds) for c in (seen, unseen))
    best = np.full(n_folds, -1.0)
    right = [np.zeros(len(seen_fold)), np.zeros(len(unseen_fold))]
    for one in settings:
        seen_right, unseen_right = one.seen.right_at(one.beta), one.unseen.right_at(one.beta)
        s, u = seen_right @ seen_weight, unseen_right @ unseen_weight  # [k, folds]
        total = s + u
        harmonic = np.divide(2 * s * u, total, out=np.zeros_like(total), where=total > 0)
        chosen = harmonic.argmax(axis=0)
        for fold in np.flatnonzero(harmonic.max(axis=0) > best):
            best[fold] = harmonic[chosen[fold], fold]
            right[0][seen_fold == fold] = seen_right[chosen[fold], seen_fold == fold]
            right[1][unseen_fold == fold] = unseen_right[chosen[fold], unseen_fold == fold]
    return _HeldOut(seen.by_class(right[0]), unseen.by_class(right[1]))


def _resampled_gains(gated: _HeldOut, frozen: _HeldOut) -> Reals:
    """Gain in HM, 0..100: first of the classes as they are, then of each resample of them."""
    random = np.random.default_rng(0)

    def means(accuracy: Reals, rows: Indices) -> Reals:
        found: Reals = np.concatenate([[accuracy.mean()], accuracy[rows].mean(axis=1)])
        return found

    rows = [random.integers(len(part), size=(N_RESAMPLES, len(part))) for part in (gated.seen, gated.unseen)]
    harmonics = []
    for one in (gated, frozen):
        s, u = means(one.seen, rows[0]), means(one.unseen, rows[1])
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
