"""Measure a finished run on the test clips; the results are plain values for JSON and tables."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from model_export.data.gzsl_data import GzslData, Indices, Reals, Track
from model_export.errors import RunError
from model_export.head.calibration import (
    Calibration,
    log_probabilities,
    rank_calibrated,
    unknown_scores,
    with_and_without_own,
)
from model_export.head.distances import (
    BETA_STEPS,
    BETA_STOP,
    StageRanked,
    rank_embedding,
)
from model_export.head.metrics import (
    auroc,
    confusions,
    hubness,
    occurrences,
    per_class_accuracy,
    reliability,
)
from model_export.head.run_folder import Run
from model_export.head.stage_tensors import StageTensors
from service.ranking import UnknownScore

RankedBy = Literal["embedding", "fused", "raw"]
"""By which distance: the embedding's, that of the raw features, or both together."""


class _Report(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Accuracy(_Report):
    """The benchmark's four figures, mean per class, 0..100.

    Attributes:
        seen: S, candidates being seen and unseen classes.
        unseen: U, likewise.
        harmonic_mean: HM = 2 S U / (S + U).
        zsl: Unseen clips among unseen classes.
    """

    seen: float
    unseen: float
    harmonic_mean: float
    zsl: float


class ClassRow(_Report):
    """One class of the per-class table.

    Attributes:
        name: Of the class.
        seen: Whether it was trained on.
        n_clips: Test clips of it.
        accuracy: 0..100, candidates being seen and unseen classes.
    """

    name: str
    seen: bool
    n_clips: int
    accuracy: float


class Confusion(_Report):
    """A frequent confusion of two classes."""

    actual: str
    predicted: str
    n_clips: int


class BetaCurveRow(_Report):
    """S, U and HM at one beta."""

    beta: float
    seen: float
    unseen: float
    harmonic_mean: float


class Hubness(_Report):
    """Skewness of the 10-occurrences of the class prototypes over all test clips.

    Attributes:
        theta: Of the embeddings before standardisation.
        z: Of the standardised embeddings.
        ranking: Of the distances that clips are ranked by.
        occurrences: 10-occurrence of each candidate class by the ranking's distances.
    """

    theta: float
    z: float
    ranking: float
    occurrences: tuple[int, ...]


class ReliabilityBin(_Report):
    """Top predictions of about the same confidence.

    Attributes:
        n_clips: How many.
        confidence: Their mean, 0..1.
        accuracy: Share that is right, 0..1.
    """

    n_clips: int
    confidence: float
    accuracy: float


class Evaluation(_Report):
    """All figures of one run.

    Attributes:
        data: Name of the data set.
        simulated: Whether its clip features were made up.
        ranking: What clips were ranked by.
        track: Tracks that the clips were given with; `any`: those that each has, since no clips of seen or
            none of unseen classes have both.
        seed: Of the run.
        accuracy: With beta.
        uncalibrated: The same with beta 0.
        calibration: What was chosen on validation and used here.
        classes: Per-class table, seen classes first.
        confusions: Most frequent first.
        beta_curve: For drawing; the beta that was used comes from validation, not from here.
        hubness: Before and after standardisation.
        calibration_error: Expected calibration error of the top prediction over all test clips, 0..1.
        reliability: What that error is made of.
        mean_confidence: Of the top prediction, 0..1.
        unknown_auroc: Unknown score of unseen-class clips against seen-class clips, the labels being the
            seen classes, 0..1.
        unknown_auroc_own: Unknown score of each clip without its own class among all labels against with it.
    """

    data: str
    simulated: bool
    ranking: RankedBy
    track: Track | Literal["any"]
    seed: int
    accuracy: Accuracy
    uncalibrated: Accuracy
    calibration: Calibration
    classes: tuple[ClassRow, ...]
    confusions: tuple[Confusion, ...]
    beta_curve: tuple[BetaCurveRow, ...]
    hubness: Hubness
    calibration_error: float
    reliability: tuple[ReliabilityBin, ...]
    mean_confidence: float
    unknown_auroc: float
    unknown_auroc_own: float


def evaluate(
    run: Run, data: GzslData, *, ranking: RankedBy | None = None, track: Track = "both"
) -> Evaluation:
    """Measure a run on the test clips of the data that it was trained on.

    Args:
        run: A finished run.
        data: The same data.
        ranking: `embedding`, `fused` with the raw features, or `raw`, the untrained late fusion of the raw
            similarities; as the configuration says where None.
        track: Of the test clips those that have the track, with this one alone; for `both` those that have
            both. If there are none of seen or none of unseen classes, all clips are measured, and the result
            says `any`.

    Raises:
        RunError: The run was trained on other data.
    """
    _check_data(run, data)
    chosen: RankedBy = ranking or ("fused" if run.config.head.raw_fusion else "embedding")
    test = StageTensors.of(data, data.stage(2), torch.device("cpu"))
    stage = test.complete() if track == "both" else test.only(track)
    calibration: Calibration = getattr(run.calibrations, ranking) if ranking else run.calibration_of(track)
    z = rank_embedding(run.network, run.config.head, run.statistics, stage)
    ranked = rank_calibrated(z, run.statistics, stage, calibration)

    curve = ranked.curve(np.linspace(0, max(BETA_STOP, calibration.beta), BETA_STEPS))
    rows = zip(curve.beta, curve.seen, curve.unseen, curve.harmonic, strict=True)
    probabilities, right = _top(ranked, calibration)
    binned = reliability(probabilities, right)
    bins = zip(binned.n_clips, binned.confidence, binned.accuracy, strict=True)
    return Evaluation(
        data=data.name,
        simulated=data.simulated,
        ranking=chosen,
        track="any" if track == "both" and not test.measures("both") else track,
        seed=run.config.head.seed,
        accuracy=accuracy_of(ranked, calibration.beta),
        uncalibrated=accuracy_of(ranked, 0.0),
        calibration=calibration,
        classes=_class_rows(ranked, calibration.beta, data.class_names),
        confusions=_confusions(ranked, calibration.beta, data.class_names),
        beta_curve=tuple(BetaCurveRow(beta=b, seen=s, unseen=u, harmonic_mean=h) for b, s, u, h in rows),
        hubness=_hubness(_rank_theta(run, stage), z, ranked),
        calibration_error=binned.calibration_error(),
        reliability=tuple(ReliabilityBin(n_clips=int(n), confidence=c, accuracy=a) for n, c, a in bins),
        mean_confidence=float(probabilities.mean()),
        **_unknown(ranked, calibration),
    )


def predict(run: Run, data: GzslData) -> Indices:
    """Class id that a run gives each test clip, seen classes' clips first: int64 [n].

    Raises:
        RunError: The run was trained on other data.
    """
    _check_data(run, data)
    stage = StageTensors.of(data, data.stage(2), torch.device("cpu"))
    z = rank_embedding(run.network, run.config.head, run.statistics, stage)
    return predicted_and_actual(
        rank_calibrated(z, run.statistics, stage, run.calibration), run.calibration.beta
    )[0]


def _check_data(run: Run, data: GzslData) -> None:
    if data.fingerprint() != run.config.data.fingerprint:
        raise RunError(f"{run.path} was trained on other data than this {data.name}")


def _rank_theta(run: Run, stage: StageTensors) -> StageRanked:
    """Distances of the embeddings before standardisation."""
    zero, one = torch.zeros_like(run.statistics.av_mean), torch.ones_like(run.statistics.av_std)
    plain = replace(run.statistics, av_mean=zero, av_std=one, text_mean=zero, text_std=one)
    config = run.config.head.model_copy(update={"standardisation": "none"})
    return rank_embedding(run.network, config, plain, stage)


def accuracy_of(ranked: StageRanked, beta: float) -> Accuracy:
    """The benchmark's four figures at one beta."""
    curve = ranked.curve(np.array([beta]))
    return Accuracy(
        seen=curve.seen[0], unseen=curve.unseen[0], harmonic_mean=curve.harmonic[0], zsl=ranked.zsl()
    )


def predicted_and_actual(ranked: StageRanked, beta: float) -> tuple[Indices, Indices]:
    """Predicted and actual class id of all clips."""
    distances, _ = ranked.stacked(beta)
    return ranked.candidates()[distances.argmin(axis=1)], ranked.pooled().class_index


def _class_rows(ranked: StageRanked, beta: float, names: tuple[str, ...]) -> tuple[ClassRow, ...]:
    predicted, actual = predicted_and_actual(ranked, beta)
    accuracy, n_clips = per_class_accuracy(predicted, actual), np.bincount(actual, minlength=len(names))
    seen = set(ranked.seen.tolist())
    return tuple(
        ClassRow(name=names[c], seen=c in seen, n_clips=int(n_clips[c]), accuracy=accuracy[c])
        for c in sorted(accuracy, key=lambda c: (c not in seen, names[c]))
    )


def _confusions(ranked: StageRanked, beta: float, names: tuple[str, ...]) -> tuple[Confusion, ...]:
    found = confusions(*predicted_and_actual(ranked, beta))
    return tuple(Confusion(actual=names[a], predicted=names[p], n_clips=n) for a, p, n in found)


def _hubness(theta: StageRanked, z: StageRanked, ranked: StageRanked) -> Hubness:
    skewness = [hubness(r.pooled().distances[:, r.candidates()]) for r in (theta, z, ranked)]
    counts = occurrences(ranked.pooled().distances[:, ranked.candidates()])
    return Hubness(theta=skewness[0], z=skewness[1], ranking=skewness[2], occurrences=tuple(counts.tolist()))


def _top(ranked: StageRanked, calibration: Calibration) -> tuple[Reals, NDArray[np.bool_]]:
    """Probability of each clip's top prediction, and whether it is right."""
    distances, target = ranked.stacked(calibration.beta)
    probabilities = np.exp(log_probabilities(distances, calibration.temperature))
    return probabilities.max(axis=1), probabilities.argmax(axis=1) == target


def _unknown(ranked: StageRanked, calibration: Calibration) -> dict[str, float]:
    """AUROC of the unknown score, defined in two ways."""
    score = UnknownScore(calibration.unknown_threshold, calibration.unknown_scale)
    known, unknown = (
        unknown_scores(clips.distances[:, ranked.seen].min(axis=1), score)
        for clips in (ranked.seen_clips, ranked.unseen_clips)
    )
    with_own, without_own = with_and_without_own(ranked.pooled(), ranked.candidates())
    return {
        "unknown_auroc": auroc(known, unknown),
        "unknown_auroc_own": auroc(*(unknown_scores(one, score) for one in (with_own, without_own))),
    }
