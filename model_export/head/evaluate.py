"""Measure a finished run on the test clips, with what was stored in it and nothing else."""

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from model_export.data.features import GzslData, Indices, Track
from model_export.errors import RunError
from model_export.head.batches import StageTensors
from model_export.head.calibration import BETA_STEPS, BETA_STOP, Calibration
from model_export.head.evaluation import (
    Accuracy,
    BetaCurveRow,
    ClassRow,
    Confusion,
    Evaluation,
    Hubness,
    Ranking,
    ReliabilityBin,
)
from model_export.head.metrics import (
    Reals,
    auroc,
    confusions,
    hubness,
    occurrences,
    per_class_accuracy,
    reliability,
)
from model_export.head.ranking import StageRanked, fuse_ranked, rank_embedding, rank_raw
from model_export.head.run import Run
from model_export.head.temperature import UnknownScore, log_probabilities, with_and_without_own


def evaluate(
    run: Run, data: GzslData, *, ranking: Ranking | None = None, track: Track = "both"
) -> Evaluation:
    """Measure a run on the test clips of the data that it was trained on.

    Args:
        run: a finished run.
        data: the same data.
        ranking: `embedding`, `fused` with the raw features, or `raw`, the untrained late fusion of the raw
            similarities; as the configuration says where None.
        track: take one track away from every test clip.

    Raises:
        RunError: the data is not what the run was trained on.
    """
    _check_data(run, data)
    chosen: Ranking = ranking or ("fused" if run.config.head.raw_fusion else "embedding")
    stage = StageTensors.of(data, data.stage(2), torch.device("cpu")).only(track)
    calibration: Calibration = getattr(run.calibrations, ranking) if ranking else run.calibration_of(track)
    z = rank_embedding(run.network, run.config.head, run.statistics, stage)
    ranked = _rank(run, stage, z, calibration)

    curve = ranked.curve(np.linspace(0, max(BETA_STOP, calibration.beta), BETA_STEPS))
    rows = zip(curve.beta, curve.seen, curve.unseen, curve.harmonic, strict=True)
    probabilities, right = _top(ranked, calibration)
    binned = reliability(probabilities, right)
    bins = zip(binned.n_clips, binned.confidence, binned.accuracy, strict=True)
    return Evaluation(
        data=data.name,
        simulated=data.simulated,
        ranking=chosen,
        track=track,
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
        RunError: the data is not what the run was trained on.
    """
    _check_data(run, data)
    stage = StageTensors.of(data, data.stage(2), torch.device("cpu"))
    z = rank_embedding(run.network, run.config.head, run.statistics, stage)
    return predicted_and_actual(_rank(run, stage, z, run.calibration), run.calibration.beta)[0]


def _check_data(run: Run, data: GzslData) -> None:
    if data.fingerprint() != run.config.data.fingerprint:
        raise RunError(f"{run.path} was trained on other data than this {data.name}")


def _rank(run: Run, stage: StageTensors, z: StageRanked, calibration: Calibration) -> StageRanked:
    """Distances by which clips are ranked: of the embedding alone, or with the raw features."""
    if not calibration.raw_weight:
        return z
    raw = rank_raw(run.statistics, stage, calibration.visual_share)
    return fuse_ranked(z, raw, calibration.raw_weight)


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
    """AUROC of the unknown score, asked in two ways."""
    score = UnknownScore(calibration.unknown_threshold, calibration.unknown_scale)
    known, unknown = (
        score.of(clips.distances[:, ranked.seen].min(axis=1))
        for clips in (ranked.seen_clips, ranked.unseen_clips)
    )
    with_own, without_own = with_and_without_own(ranked.pooled(), ranked.candidates())
    return {
        "unknown_auroc": auroc(known, unknown),
        "unknown_auroc_own": auroc(score.of(with_own), score.of(without_own)),
    }
