"""The numbers that validation fits after training: fusion weights, beta, temperature, unknown score."""

from __future__ import annotations

from typing import Final

import numpy as np
from pydantic import BaseModel, ConfigDict
from scipy.optimize import minimize, minimize_scalar
from scipy.special import expit, log_softmax

from model_export.data.gzsl_data import Indices, Reals
from model_export.head.distances import StageRanked, best_beta, fuse_ranked, rank_raw
from model_export.head.gate import Weighing, certify, choose
from model_export.head.head_config import HeadConfig
from model_export.head.metrics import ClipDistances, Distances
from model_export.head.stage_tensors import StageTensors
from model_export.head.standardisation import Statistics
from service.bundle.head_specs import AgreementScore
from service.bundle.head_specs import Calibration as StoredCalibration
from service.ranking import UnknownScore

RAW_WEIGHTS: Final = tuple(i / 20 for i in range(21))
VISUAL_SHARES: Final = (0.5, 0.25, 0.75, 0.0, 1.0)  # where several are equal the first is chosen


class Calibration(StoredCalibration):
    """What a bundle stores of a ranking, and its figures on the validation clips that it was chosen on.

    Attributes:
        seen: S on validation, 0..100; 0, as the next three, where there was nothing to measure it on.
        unseen: U on validation.
        harmonic_mean: HM on validation.
        zsl: ZSL on validation.
    """

    seen: float
    unseen: float
    harmonic_mean: float
    zsl: float


class Calibrations(BaseModel):
    """Contents of calibration.json.

    Attributes:
        embedding: For ranking by the embedding alone.
        fused: For ranking by the embedding and the raw features.
        raw: For ranking by the raw features alone, which needs no training.
        visual: For clips with a visual track alone, by the configuration's ranking; None: as for both tracks.
        audio: For clips with an audio track alone, likewise.
        agreement: What tells whether both tracks show the same; None: too few clips have both.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    embedding: Calibration
    fused: Calibration
    raw: Calibration
    visual: Calibration | None = None
    audio: Calibration | None = None
    agreement: AgreementScore | None = None


def calibrate_embedding(ranked: StageRanked) -> Calibration:
    """Fit the numbers for ranking by the embedding alone."""
    return _calibrated(ranked, raw_weight=0.0, visual_share=VISUAL_SHARES[0])


def calibrate_fused(
    embedding: StageRanked,
    statistics: Statistics,
    stage: StageTensors,
    raw_weights: tuple[float, ...] = RAW_WEIGHTS,
    visual_shares: tuple[float, ...] = VISUAL_SHARES,
) -> Calibration:
    """Choose the weights of the raw distance by validation HM, then fit the other numbers to the sum.

    Args:
        embedding: Distances of the embedding.
        statistics: Centres of the raw features.
        stage: The validation clips.
        raw_weights: To choose from; (1,) ranks by the raw features alone.
        visual_shares: To choose from, as far as training clips had the track.
    """
    visual_shares = _known(statistics, visual_shares)
    raws = [rank_raw(statistics, stage, share) for share in visual_shares]
    harmonic = np.array(
        [[_best_harmonic(fuse_ranked(embedding, raw, weight)) for weight in raw_weights] for raw in raws]
    )
    row, column = choose(harmonic)
    fused = fuse_ranked(embedding, raws[row], raw_weights[column])
    return _calibrated(fused, raw_weight=raw_weights[column], visual_share=visual_shares[row])


def calibrate_served(
    config: HeadConfig,
    embedding: StageRanked,
    statistics: Statistics,
    stage: StageTensors,
    data: str,
    visual_shares: tuple[float, ...] = VISUAL_SHARES,
) -> Calibration:
    """For the ranking that a bundle would have: by the embedding alone, or with the raw features.

    Weights that are chosen on validation are gated: the embedding counts only if it is certain to bring
    something. Other rankings are as their method has them, and the certificate tells what they bring.

    Args:
        config: Whether the raw features count, and how their weight is found.
        embedding: Distances of the embedding.
        statistics: Centres of the raw features.
        stage: The validation clips.
        data: Names them.
        visual_shares: To choose from, as far as training clips had the track.
    """
    weights, shares = fusion_weights(config, embedding, statistics, stage, visual_shares)
    raws = {share: rank_raw(statistics, stage, share) for share in _known(statistics, visual_shares)}
    certificate = certify(embedding, raws, Weighing(shares, weights), data)
    if config.raw_weight == "validated" and config.raw_fusion:
        weights = weights[:-1] if certificate.is_open else weights[-1:]
    found = (
        calibrate_fused(embedding, statistics, stage, weights, shares)
        if config.raw_fusion
        else calibrate_embedding(embedding)
    )
    return found.model_copy(update={"certificate": certificate})


def rank_calibrated(
    embedding: StageRanked, statistics: Statistics, stage: StageTensors, calibration: Calibration
) -> StageRanked:
    """Distances by which a calibration ranks: by the embedding alone, or together with the raw features."""
    if not calibration.raw_weight:
        return embedding
    raw = rank_raw(statistics, stage, calibration.visual_share)
    return fuse_ranked(embedding, raw, calibration.raw_weight)


def fusion_weights(
    config: HeadConfig,
    embedding: StageRanked,
    statistics: Statistics,
    stage: StageTensors,
    visual_shares: tuple[float, ...] = VISUAL_SHARES,
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Weights of the raw distance, the last of them 1, and of the visual track in it, to choose from."""
    visual_shares = _known(statistics, visual_shares)
    if not config.raw_fusion:
        return (0.0,), visual_shares[:1]
    if config.raw_weight == "validated":
        return RAW_WEIGHTS, visual_shares
    raw = rank_raw(statistics, stage, visual_shares[0])
    return (balanced_weight(embedding, raw),), visual_shares[:1]


def balanced_weight(embedding: StageRanked, raw: StageRanked) -> float:
    """The weight of the raw distance with which both distances count alike once each is divided by its mean.

    With means m and m' over the clips and their candidate classes, d / m + d' / m' orders classes as
    (1 - w) d + w d' does with w = m / (m + m').
    """
    own, other = (float(ranked.stacked(0.0)[0].mean()) for ranked in (embedding, raw))
    return own / (own + other)


def _known(statistics: Statistics, visual_shares: tuple[float, ...]) -> tuple[float, ...]:
    """The shares, or where no training clip had one of the tracks, the share without it."""
    return visual_shares if statistics.knows("both") else (float(statistics.knows("visual")),)


def _best_harmonic(ranked: StageRanked) -> float:
    return float(best_beta(ranked).harmonic.max())


def _calibrated(ranked: StageRanked, raw_weight: float, visual_share: float) -> Calibration:
    curve = best_beta(ranked)
    chosen = curve.best()
    beta = float(curve.beta[chosen])
    unknown = fit_unknown(*with_and_without_own(ranked.pooled(), ranked.candidates()))
    return Calibration(
        raw_weight=raw_weight,
        visual_share=visual_share,
        beta=beta,
        temperature=fit_temperature(*ranked.stacked(beta)),
        unknown_threshold=unknown.threshold,
        unknown_scale=unknown.scale,
        seen=float(curve.seen[chosen]),
        unseen=float(curve.unseen[chosen]),
        harmonic_mean=float(curve.harmonic[chosen]),
        zsl=ranked.zsl(),
    )


def log_probabilities(distances: Distances, temperature: float) -> Reals:
    """Log of softmax(-distance / temperature) over the columns of distances [n, c] that include beta."""
    result: Reals = log_softmax(-distances.astype(np.float64) / temperature, axis=1)
    return result


def fit_temperature(distances: Distances, target: Indices) -> float:
    """The temperature with the lowest mean negative log likelihood (Guo et al., ICML 2017).

    Where no clip is wrong, the likelihood grows for ever as the temperature falls, and scores would claim
    certainty on the word of a few clips. Then one clip more counts, whose class may be any of them alike.

    Args:
        distances: [n, c] of validation clips to the candidate classes, with beta on the seen ones.
        target: int64 [n], column of the right class.
    """
    rows = np.arange(len(target))
    n_added = int((distances[rows, target] <= distances.min(axis=1)).all())

    def nll(log_temperature: float) -> float:
        log_p = log_probabilities(distances, float(np.exp(log_temperature)))
        total = log_p[rows, target].sum() + n_added * log_p.mean()
        return -float(total / (len(rows) + n_added))

    spread = float(distances.std()) + 1e-12
    bounds = (np.log(spread * 1e-3), np.log(spread * 1e2))
    return float(np.exp(minimize_scalar(nll, bounds=bounds, method="bounded").x))


def unknown_scores(nearest: Reals, score: UnknownScore) -> Reals:
    """How likely it is that no label fits, 0..1, by each clip's distance [n] to its nearest label."""
    found: Reals = expit((nearest - score.threshold) / score.scale)
    return found


def with_and_without_own(clips: ClipDistances, candidates: Indices) -> tuple[Reals, Reals]:
    """Each clip's distance to its nearest candidate, own class included and own class left out."""
    among = clips.distances[:, candidates].astype(np.float64)
    own = candidates[None, :] == clips.class_index[:, None]
    return among.min(axis=1), np.where(own, np.inf, among).min(axis=1)


def fit_unknown(known: Reals, unknown: Reals) -> UnknownScore:
    """Logistic regression on the distance to the nearest label.

    Where a threshold tells all of them apart, the steepest score would be the most likely one. Then each
    clip counts a little for the other group too, one in n + 2, as Platt (1999) has it.

    Args:
        known: [n], distances of clips whose class is among the labels.
        unknown: [m], distances of clips whose class is not.
    """
    # Both groups weigh one half, however many clips each has; the fit runs on standardised distances.
    distance = np.concatenate([known, unknown])
    sign = np.concatenate([np.full(len(known), -1.0), np.full(len(unknown), 1.0)])
    n = np.concatenate([np.full(len(group), len(group)) for group in (known, unknown)])
    weight, other = 0.5 / n, (known.max() <= unknown.min()) / (n + 2)
    centre, spread = float(distance.mean()), float(distance.std()) + 1e-12
    x = (distance - centre) / spread

    def loss(parameters: Reals) -> float:
        # The slope is exp(.), so that the score can only grow with the distance.
        slope, offset = np.exp(parameters[0]), parameters[1]
        towards = sign * slope * (x - offset)
        losses = (1 - other) * np.logaddexp(0.0, -towards) + other * np.logaddexp(0.0, towards)
        return float(np.sum(weight * losses))

    log_slope, offset = minimize(loss, x0=np.zeros(2), bounds=[(-7, 7), (-10, 10)], method="L-BFGS-B").x
    return UnknownScore(threshold=centre + spread * float(offset), scale=spread / float(np.exp(log_slope)))
