"""Fit the scores of a similarity head to labelled clips: temperatures, and the measure of unknown.

    python -m benchmarks.answers.fit_scores DIR [--bundle weights/everyday] [--lists 100 300 1000]
        [--distractors ...]

For each set of tracks, over lists of all lengths together: the temperature that makes the right names most
likely (Guo et al., ICML 2017), and threshold, slope and scale of `unknown` by logistic regression on the
similarity of the nearest name, with the right name in the list and with it left out. Prints the part `scores`
of a manifest. DIR and the options are those of benchmarks.answers.real_clips.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from benchmarks.answers.clip_measure import CannotMeasureError, Measured
from benchmarks.answers.ranked_lists import Track, similarities
from benchmarks.answers.real_clips import CAN_FAIL, add_ranking_options, rank_folder
from service.bundle.head_specs import SimilarityScore, SimilarityScores
from service.embed.embedder import LabelEmbedder
from service.head.similarity import SimilarityHead
from service.labels.label import Candidates
from service.registry import Bundle

Floats = NDArray[np.float64]
_PARTS: dict[str, Track] = {"both": "fused", "visual": "picture", "audio": "sound"}


@dataclass(frozen=True)
class Ranked:
    """A clip among one list of names.

    Attributes:
        similarity: float64 [n], to each name of the list.
        right: Index of the right one.
        weight: Lists of one length count as one together.
    """

    similarity: Floats
    right: int
    weight: float


def main() -> None:
    """Print the fitted part of the manifest as JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, metavar="DIR")
    add_ranking_options(parser)
    options = parser.parse_args()
    try:
        scores = fit_all(*rank_folder(options.folder, options))
    except CAN_FAIL as error:
        parser.exit(2, f"{error}\n")
    sys.stdout.write(scores.model_dump_json(indent=2) + "\n")


def fit_all(bundle: Bundle, measured: Measured) -> SimilarityScores:
    """The scores for each set of tracks.

    Raises:
        CannotMeasureError: The bundle has a trained head, or no clip has one of the tracks.
    """
    if not isinstance(bundle.head, SimilarityHead):
        raise CannotMeasureError(
            "The bundle has a trained head: `ahse train` fits the scores of such a head."
        )
    names = LabelEmbedder(2**30).embed(bundle, Candidates(measured.labels))
    fitted = {}
    for part, track in _PARTS.items():
        rows = similarities(bundle, names, measured.encoded.features, track)
        if not rows:
            raise CannotMeasureError(f"There are no clips that have this track: {part}. Add some.")
        fitted[part] = fit(_ranked(measured, rows))
    return SimilarityScores(**fitted)


def fit(ranked: Sequence[Ranked]) -> SimilarityScore:
    """The numbers that make the right names, and the lists without one, most likely."""
    surprise = _surprise(ranked)
    sharpness = _least(lambda x: surprise(float(np.exp(x[0]))), [0.0])
    nearest = np.array([[one.similarity.max(), _best_wrong(one)] for one in ranked])
    n_names = np.log([[len(one.similarity), len(one.similarity) - 1] for one in ranked])
    weights = np.array([one.weight for one in ranked])[:, None]

    def loss(x: Floats) -> float:
        """Logistic loss of `unknown`, which is right where the right name was left out."""
        logits = (x[0] + np.exp(x[1]) * n_names - nearest) / np.exp(x[2])
        return float(np.sum(weights * (np.logaddexp(0, logits) - logits * [0.0, 1.0])))

    threshold, slope, scale = _least(loss, [float(nearest.mean()), -1.0, 1.0])
    return SimilarityScore(
        temperature=round(float(np.exp(-sharpness[0])), 3),
        unknown_threshold=round(float(threshold), 3),
        unknown_slope=round(float(np.exp(slope)), 3),
        unknown_scale=round(float(np.exp(scale)), 3),
    )


def _ranked(measured: Measured, rows: dict[int, Floats]) -> list[Ranked]:
    ranked = []
    for lists in measured.lists:
        for clip, similarity in rows.items():
            for draw in lists.draws:
                right = int(np.flatnonzero(draw[clip] == measured.right[clip])[0])
                ranked.append(Ranked(similarity[draw[clip]], right, 1 / len(lists.draws)))
    return ranked


def _surprise(ranked: Sequence[Ranked]) -> Callable[[float], float]:
    """Sum of the negative log-likelihoods of the right names, as a function of the sharpness.

    All lists stand in one array, so that a step of the fit is a few operations on it.
    """
    lengths = [len(one.similarity) for one in ranked]
    starts = np.cumsum([0, *lengths[:-1]])
    every = np.concatenate([one.similarity for one in ranked])
    right = np.array([one.similarity[one.right] for one in ranked])
    weights = np.array([one.weight for one in ranked])
    nearest = np.maximum.reduceat(every, starts)
    below = every - np.repeat(nearest, lengths)

    def surprise(sharpness: float) -> float:
        totals = np.add.reduceat(np.exp(sharpness * below), starts)
        return float(weights @ (np.log(totals) + sharpness * (nearest - right)))

    return surprise


def _best_wrong(one: Ranked) -> float:
    return float(np.delete(one.similarity, one.right).max())


def _least(loss: Callable[[Floats], float], start: Sequence[float]) -> Floats:
    found: Floats = minimize(loss, np.array(start), method="Nelder-Mead", options={"maxiter": 5000}).x
    return found


if __name__ == "__main__":
    main()
