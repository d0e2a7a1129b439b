"""Order the candidates by distance, with calibrated stacking, and turn distances into probabilities."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Calibration = Literal["auto", "off"] | float


@dataclass(frozen=True)
class TrackScores:
    """What one track alone says of the candidates: its cosine similarity to its own text (CLIP, CLAP)."""

    similarity: Array
    """float32 [n], -1..1."""
    score: Array
    """float32 [n], softmax of similarity x the encoder's logit scale; sums to 1."""


@dataclass(frozen=True)
class Ranking:
    """All candidates of one clip."""

    order: NDArray[np.intp]
    """int [n]: candidate indices, best first; equal distances keep the order of the request."""
    distance: Array
    """float32 [n], Euclidean between standardised embeddings, beta added for seen classes."""
    score: Array
    """float32 [n], softmax(-distance / temperature); sums to 1."""


def rank(
    clip: Array, candidates: Array, seen: NDArray[np.bool_], *, beta: float, temperature: float
) -> Ranking:
    """argmin_c || z_av - z_text(c) ||_2 + beta [c seen] (AHSE, inference).

    Args:
        clip: float32 [dim], standardised embedding of the clip.
        candidates: float32 [n, dim], standardised embeddings of the names.
        seen: bool [n], which of them the head was trained on.
        beta: added to the distance of seen classes (calibrated stacking, Chao et al., ECCV 2016).
        temperature: of the softmax over negative distances.
    """
    distance = np.linalg.norm(candidates - clip, axis=1) + np.float32(beta) * seen
    return Ranking(
        order=np.argsort(distance, kind="stable"),
        distance=distance,
        score=softmax(-distance / np.float32(temperature)),
    )


def score_track(feature: Array, texts: Array, logit_scale: float) -> TrackScores:
    """Scores of one track alone, as CLIP and CLAP rank without any head.

    Args:
        feature: float32 [dim], unit length.
        texts: float32 [n, dim], unit rows.
        logit_scale: factor on the cosine before the softmax.
    """
    similarity = texts @ feature
    return TrackScores(similarity, softmax(similarity * np.float32(logit_scale)))


def softmax(logits: Array) -> Array:
    """Probabilities along the last axis."""
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    probabilities: Array = exponentials / exponentials.sum(axis=-1, keepdims=True)
    return probabilities


def beta_of(calibration: Calibration, stored: float) -> float:
    """The beta of a request: the bundle's stored one, none, or the number that was sent."""
    if calibration == "auto":
        return stored
    return 0.0 if calibration == "off" else calibration
