"""What is chosen on validation after training: fusion weight, beta, temperature, unknown score."""

from typing import Final

import numpy as np
from pydantic import BaseModel, ConfigDict

from model_export.head.batches import StageTensors
from model_export.head.metrics import BetaCurve
from model_export.head.ranking import StageRanked, fuse_ranked, rank_raw
from model_export.head.statistics import Statistics
from model_export.head.temperature import fit_temperature, fit_unknown, with_and_without_own

RAW_WEIGHTS: Final = tuple(i / 20 for i in range(21))
VISUAL_SHARES: Final = (0.5, 0.25, 0.75, 0.0, 1.0)  # of equals the first is chosen
BETA_STEPS: Final = 76
BETA_STOP: Final = 5.0
BETA_DOUBLINGS: Final = 8


class Calibration(BaseModel):
    """How distances become a ranking and probabilities; every value was chosen on validation clips.

    Attributes:
        raw_weight: share of the raw distance, 0..1; 0 ranks by the embedding alone.
        visual_share: weight of the visual cosine in the raw distance, 0..1; the audio cosine has the rest.
        beta: added to the distances of seen classes (calibrated stacking).
        temperature: probabilities are softmax(-distance / temperature), beta included.
        unknown_threshold: distance to the nearest label, without beta, at which none fitting is as likely.
        unknown_scale: the unknown score is sigmoid((nearest - unknown_threshold) / unknown_scale).
        seen: S on validation, 0..100.
        unseen: U on validation.
        harmonic_mean: HM on validation.
        zsl: ZSL on validation.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    raw_weight: float
    visual_share: float
    beta: float
    temperature: float
    unknown_threshold: float
    unknown_scale: float
    seen: float
    unseen: float
    harmonic_mean: float
    zsl: float


def best_beta(ranked: StageRanked) -> BetaCurve:
    """The reference's grid of 76 values from 0 to 5, made wider while the optimum lies at its end."""
    stop = BETA_STOP
    curve = ranked.curve(np.linspace(0, stop, BETA_STEPS))
    for _ in range(BETA_DOUBLINGS):
        if curve.best() < BETA_STEPS - 1:
            break
        stop *= 2
        curve = ranked.curve(np.linspace(0, stop, BETA_STEPS))
    return curve


def calibrate_embedding(ranked: StageRanked) -> Calibration:
    """Calibrate the embedding's distances as they are."""
    return _calibrated(ranked, raw_weight=0.0, visual_share=VISUAL_SHARES[0])


def calibrate_fused(
    embedding: StageRanked,
    statistics: Statistics,
    stage: StageTensors,
    raw_weights: tuple[float, ...] = RAW_WEIGHTS,
    visual_shares: tuple[float, ...] = VISUAL_SHARES,
) -> Calibration:
    """Choose the weights of the raw distance by validation HM, then calibrate the sum.

    Of visual shares that are equally good the first is taken, of raw weights the middle one: with few clips
    many weights reach the same HM, and the outer ones are a step from worse. Of two middle ones it is the
    smaller, so that a head that does no worse than none is used.

    Args:
        embedding: distances of the embedding.
        statistics: centres of the raw features.
        stage: the validation clips.
        raw_weights: to choose from; (1,) ranks by the raw features alone.
        visual_shares: to choose from.
    """
    raws = [rank_raw(statistics, stage, share) for share in visual_shares]
    harmonic = np.array(
        [[_best_harmonic(fuse_ranked(embedding, raw, weight)) for weight in raw_weights] for raw in raws]
    )
    row = int(harmonic.max(axis=1).argmax())
    equals = np.flatnonzero(harmonic[row] == harmonic.max())
    weight = raw_weights[equals[(len(equals) - 1) // 2]]
    fused = fuse_ranked(embedding, raws[row], weight)
    return _calibrated(fused, raw_weight=weight, visual_share=visual_shares[row])


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
