"""Order the candidates by distance, with calibrated stacking, and turn distances into probabilities."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from service.arrays import Array


@dataclass(frozen=True)
class TrackScores:
    """Scores of the candidates by one track alone: its similarity to its own text, as in CLIP and CLAP.

    Attributes:
        similarity: float32 [n], -1..1, cosine.
        score: float32 [n], softmax of similarity x the encoder's logit scale; sums to 1.
    """

    similarity: Array
    score: Array


@dataclass(frozen=True)
class UnknownScore:
    """unknown = sigmoid((nearest - threshold) / scale), of the nearest distance without beta."""

    threshold: float
    scale: float


@dataclass(frozen=True)
class Scoring:
    """How distances become a ranking and probabilities.

    Attributes:
        temperature: score = softmax(-distance / temperature).
        beta: Calibrated stacking: added to the distance of seen classes.
        unknown: None: the head cannot tell whether any label fits.
    """

    temperature: float
    beta: float = 0.0
    unknown: UnknownScore | None = None


@dataclass(frozen=True)
class Ranking:
    """All candidates of one clip.

    Attributes:
        distance: float32 [n], beta added for seen classes.
        score: float32 [n], softmax(-distance / temperature); sums to 1.
        unknown: 0..1, how likely it is that none of the candidates fits; None where the head cannot tell.
    """

    distance: Array
    score: Array
    unknown: float | None

    def best(self, n: int | None = None) -> NDArray[np.intp]:
        """Indices of the n best candidates, or of all, best first; ties keep the order of the request."""
        if n is None or n >= len(self.distance):
            return np.argsort(self.distance, kind="stable")
        last = np.partition(self.distance, n - 1)[n - 1]
        chosen = np.flatnonzero(self.distance <= last)
        return chosen[np.argsort(self.distance[chosen], kind="stable")][:n]


def rank(distance: Array, seen: NDArray[np.bool_], scoring: Scoring, beta: float) -> Ranking:
    """Stack: distance + beta [c seen] (AHSE, inference; Chao et al., ECCV 2016), and score.

    Args:
        distance: float32 [n], of the clip to each candidate.
        seen: bool [n], which of them the head was trained on.
        scoring: The head's stored numbers.
        beta: For seen classes, in place of the stored one.
    """
    stacked = distance + np.float32(beta) * seen.astype(np.float32)
    logits = (-stacked / scoring.temperature).astype(np.float32)
    return Ranking(
        distance=stacked,
        score=softmax(logits),
        unknown=None if scoring.unknown is None else _unknown(float(distance.min()), scoring.unknown),
    )


def _unknown(nearest: float, score: UnknownScore) -> float:
    beyond = (nearest - score.threshold) / score.scale
    return 1 / (1 + math.exp(-max(-700.0, min(700.0, beyond))))


def score_track(cosine: Array, logit_scale: float) -> TrackScores:
    """Scores of one track alone, as CLIP and CLAP rank without any head.

    Args:
        cosine: float32 [n], of the track to each name.
        logit_scale: Factor on the cosine before the softmax.
    """
    return TrackScores(cosine, softmax(cosine * np.float32(logit_scale)))


def softmax(logits: Array) -> Array:
    """Probabilities along the last axis."""
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    probabilities: Array = exponentials / exponentials.sum(axis=-1, keepdims=True)
    return probabilities


def beta_of(asked: Literal["auto", "off"] | float, stored: float) -> float:
    """The beta of a request: the bundle's stored one, none, or the number that was asked for."""
    if asked == "auto":
        return stored
    return 0.0 if asked == "off" else asked
