"""The benchmark's figures as pure functions of distances and class ids; accuracies are 0..100."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from model_export.data.gzsl_data import Indices, Reals
from service.arrays import Array

Distances = NDArray[np.floating]
DIGITS: Final = 9  # of accuracies, so that equal ones stay equal whatever the order of summation


def per_class_accuracy(predicted: Indices, actual: Indices) -> dict[int, float]:
    """Accuracy of each class that has clips, 0..100."""
    return {int(c): 100.0 * float(np.mean(predicted[actual == c] == c)) for c in np.unique(actual)}


def mean_class_accuracy(predicted: Indices, actual: Indices) -> float:
    """Mean over classes of the accuracy within each, 0..100."""
    return float(np.mean(list(per_class_accuracy(predicted, actual).values())))


def harmonic_mean(seen: float, unseen: float) -> float:
    """2 S U / (S + U); 0 where both are 0."""
    return 2 * seen * unseen / (seen + unseen) if seen + unseen else 0.0


def nearest(distances: Distances, candidates: Indices) -> Indices:
    """Id of the nearest candidate class for each row of distances [n, n_classes]."""
    ids: Indices = candidates[distances[:, candidates].argmin(axis=1)]
    return ids


@dataclass(frozen=True)
class ClipDistances:
    """Clips with their distances to every class of the data set.

    Attributes:
        distances: [n, n_classes].
        class_index: int64 [n], the right class.
    """

    distances: Distances
    class_index: Indices


@dataclass(frozen=True)
class BetaCurve:
    """Accuracy for each beta of calibrated stacking.

    Attributes:
        beta: float64 [k], added to the distances of seen classes.
        seen: float64 [k], S, 0..100.
        unseen: float64 [k], U, 0..100.
        harmonic: float64 [k], HM, 0..100.
    """

    beta: Reals
    seen: Reals
    unseen: Reals
    harmonic: Reals

    def best(self) -> int:
        """Position of the highest harmonic mean; the first where several are equal."""
        return int(self.harmonic.argmax())


def beta_curve(
    seen_clips: ClipDistances, unseen_clips: ClipDistances, seen: Indices, unseen: Indices, beta: Reals
) -> BetaCurve:
    """S, U and HM for each beta, candidates being all seen and unseen classes.

    Only the nearest seen and the nearest unseen class matter: beta shifts the choice between the two.
    """
    s = _stacked_accuracy(seen_clips, seen, unseen, beta)
    u = _stacked_accuracy(unseen_clips, seen, unseen, beta)
    total = s + u
    harmonic = np.divide(2 * s * u, total, out=np.zeros_like(total), where=total > 0)
    return BetaCurve(beta, s, u, harmonic)


def _stacked_accuracy(clips: ClipDistances, seen: Indices, unseen: Indices, beta: Reals) -> Reals:
    """Mean class accuracy for each beta: float64 [k]."""
    to_seen = clips.distances[:, seen].min(axis=1).astype(np.float64)
    to_unseen = clips.distances[:, unseen].min(axis=1).astype(np.float64)
    seen_right = nearest(clips.distances, seen) == clips.class_index
    unseen_right = nearest(clips.distances, unseen) == clips.class_index
    says_seen = to_seen + beta[:, None] <= to_unseen  # [k, n]
    right = np.where(says_seen, seen_right, unseen_right)
    _, position, count = np.unique(clips.class_index, return_inverse=True, return_counts=True)
    share = 1 / (len(count) * count[position])  # [n], of a clip in the mean over classes
    mean: Reals = np.round(100.0 * (right @ share), DIGITS)
    return mean


def occurrences(distances: Distances, k: int = 10) -> Indices:
    """How often each class is among the k nearest of a clip: int64 [n_classes]."""
    n_classes = distances.shape[1]
    k = min(k, n_classes)
    near = np.argpartition(distances, k - 1, axis=1)[:, :k]
    return np.bincount(near.ravel(), minlength=n_classes).astype(np.int64)


def hubness(distances: Distances, k: int = 10) -> float:
    """Skewness of the k-occurrences of the classes (Radovanovic et al., 2010); 0 where all are equal."""
    n = occurrences(distances, k).astype(np.float64)
    deviation = n - n.mean()
    spread = np.mean(deviation**2)
    return float(np.mean(deviation**3) / spread**1.5) if spread else 0.0


@dataclass(frozen=True)
class Reliability:
    """Top predictions in bins of equal width by confidence; empty bins are left out.

    Attributes:
        n_clips: int64 [k].
        confidence: float64 [k], mean within the bin, 0..1.
        accuracy: float64 [k], share that is right, 0..1.
    """

    n_clips: Indices
    confidence: Reals
    accuracy: Reals

    def calibration_error(self) -> float:
        """Expected calibration error: mean gap of confidence and accuracy, weighted by clips; 0..1."""
        gaps = np.abs(self.confidence - self.accuracy)
        return float(np.average(gaps, weights=self.n_clips))


def reliability(confidence: Reals, right: NDArray[np.bool_], n_bins: int = 15) -> Reliability:
    """Compare the confidence [n] of top predictions with how often they are right [n]."""
    bins = np.minimum((confidence * n_bins).astype(np.int64), n_bins - 1)
    n = np.bincount(bins, minlength=n_bins)
    used = n > 0
    sums = (np.bincount(bins, weights=w, minlength=n_bins)[used] for w in (confidence, right))
    mean_confidence, accuracy = (total / n[used] for total in sums)
    return Reliability(n[used].astype(np.int64), mean_confidence, accuracy)


def auroc(negative: Array | Reals, positive: Array | Reals) -> float:
    """Chance that a positive's score is above a negative's, ties counted half; 0..1."""
    ordered = np.sort(negative)
    below = np.searchsorted(ordered, positive, side="left")
    not_above = np.searchsorted(ordered, positive, side="right")
    return float((below + not_above).mean() / (2 * len(negative)))


def confusions(predicted: Indices, actual: Indices, n_pairs: int = 20) -> list[tuple[int, int, int]]:
    """The most frequent mistakes as (actual class, predicted class, clips), most frequent first."""
    wrong = predicted != actual
    pairs, count = np.unique(np.stack([actual[wrong], predicted[wrong]]), axis=1, return_counts=True)
    order = np.argsort(-count, kind="stable")[:n_pairs]
    return [(int(pairs[0, i]), int(pairs[1, i]), int(count[i])) for i in order]
