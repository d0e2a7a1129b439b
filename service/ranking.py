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
        return lowest(self.distance, n)


def lowest(values: Array, n: int | None = None) -> NDArray[np.intp]:
    """Indices of the n lowest of some values, or of all, lowest first; ties keep their order."""
    if n is None or n >= len(values):
        return np.argsort(values, kind="stable")
    last = np.partition(values, n - 1)[n - 1]
    chosen = np.flatnonzero(values <= last)
    return chosen[np.argsort(values[chosen], kind="stable")][:n]


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
        unknown=None if scoring.unknown is None else unknown_of(float(distance.min()), scoring.unknown),
    )


def unknown_of(nearest: float, score: UnknownScore) -> float:
    """How likely it is that no candidate fits, by the distance of the nearest, without beta."""
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


class LogSum:
    """The sum of the exponentials of numbers that come block by block: the divisor of their softmax.

    Attributes:
        n: How many there were.
        first: Which of them is the largest; of equal ones the first.
    """

    def __init__(self) -> None:
        self.n = self.first = 0
        self._top = -math.inf
        self._sum = 0.0

    @property
    def is_empty(self) -> bool:
        """Whether nothing has come."""
        return not self.n

    @property
    def largest(self) -> float:
        """The largest probability."""
        return 1 / self._sum

    def add(self, logits: Array) -> tuple[Array, float]:
        """Add a block.

        Returns:
            exp(logits - largest), and what the exponentials of earlier blocks have to be multiplied by, since
            the largest may have grown.
        """
        best, before = int(logits.argmax()), self._top
        if logits[best] > self._top:
            self._top, self.first = float(logits[best]), self.n + best
        exponentials: Array = np.exp(logits - np.float32(self._top))
        shrunk = math.exp(before - self._top)
        self._sum = self._sum * shrunk + float(exponentials.sum())
        self.n += len(logits)
        return exponentials, shrunk

    def probabilities(self, logits: Array) -> Array:
        """Softmax of some of the numbers among all that have come."""
        found: Array = np.exp(logits - np.float32(self._top)) / np.float32(self._sum)
        return found


def beta_of(asked: Literal["auto", "off"] | float, stored: float) -> float:
    """The beta of a request: the bundle's stored one, none, or the number that was asked for."""
    if asked == "auto":
        return stored
    return 0.0 if asked == "off" else asked
