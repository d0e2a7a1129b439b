"""What is chosen on validation after training: fusion weight, beta, temperature, unknown score."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from model_export.data.features import Indices
from model_export.head.batches import Clips, StageTensors
from model_export.head.config import HeadConfig
from model_export.head.distances import embedding_distances, raw_distances
from model_export.head.metrics import (
    BetaCurve,
    Distances,
    Ranked,
    Reals,
    beta_curve,
    mean_class_accuracy,
    nearest,
)
from model_export.head.network import HeadNetwork
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


@dataclass(frozen=True)
class StageRanked:
    """The clips that a stage is measured on, with their distances to every class.

    Attributes:
        seen_clips: clips of seen classes.
        unseen_clips: clips of unseen classes.
        seen: ids of the seen classes.
        unseen: ids of the unseen classes.
    """

    seen_clips: Ranked
    unseen_clips: Ranked
    seen: Indices
    unseen: Indices

    def curve(self, beta: Reals) -> BetaCurve:
        """S, U and HM for each beta."""
        return beta_curve(self.seen_clips, self.unseen_clips, self.seen, self.unseen, beta)

    def zsl(self) -> float:
        """Mean class accuracy of unseen clips among unseen classes, 0..100."""
        predicted = nearest(self.unseen_clips.distances, self.unseen)
        return mean_class_accuracy(predicted, self.unseen_clips.class_index)

    def candidates(self) -> Indices:
        """Ids of all classes that clips are ranked against."""
        return np.concatenate([self.seen, self.unseen])

    def pooled(self) -> Ranked:
        """Seen and unseen clips together."""
        parts = (self.seen_clips, self.unseen_clips)
        return Ranked(
            np.concatenate([part.distances for part in parts]),
            np.concatenate([part.class_index for part in parts]),
        )

    def stacked(self, beta: float) -> tuple[Distances, Indices]:
        """Distances [n, c] of all clips to the candidates, beta added, and the right column [n]."""
        clips, candidates = self.pooled(), self.candidates()
        among = clips.distances[:, candidates] + beta * np.isin(candidates, self.seen)
        return among, (candidates[None, :] == clips.class_index[:, None]).argmax(axis=1)


def rank_stage(stage: StageTensors, distances: Callable[[Clips], Tensor]) -> StageRanked:
    """Measure the distances of a stage's evaluation clips to every class."""
    seen_clips, unseen_clips = (
        Ranked(distances(clips).cpu().numpy(), clips.class_index.cpu().numpy())
        for clips in (stage.eval_seen, stage.eval_unseen)
    )
    return StageRanked(seen_clips, unseen_clips, stage.seen.cpu().numpy(), stage.unseen.cpu().numpy())


def rank_embedding(
    network: HeadNetwork, config: HeadConfig, statistics: Statistics, stage: StageTensors
) -> StageRanked:
    """Distances in the embedding alone."""
    mode = config.standardisation
    return rank_stage(stage, lambda c: embedding_distances(network, mode, statistics, c, stage.texts))


def rank_raw(statistics: Statistics, stage: StageTensors, visual_share: float) -> StageRanked:
    """Distances of the raw features alone."""
    return rank_stage(stage, lambda c: raw_distances(statistics, c, stage.texts, visual_share))


def fuse_ranked(embedding: StageRanked, raw: StageRanked, raw_weight: float) -> StageRanked:
    """Mean of both distances, weighted 1 - `raw_weight` and `raw_weight`."""

    def fused(a: Ranked, b: Ranked) -> Ranked:
        return Ranked((1 - raw_weight) * a.distances + raw_weight * b.distances, a.class_index)

    return StageRanked(
        fused(embedding.seen_clips, raw.seen_clips),
        fused(embedding.unseen_clips, raw.unseen_clips),
        embedding.seen,
        embedding.unseen,
    )


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


def calibrate_fused(embedding: StageRanked, statistics: Statistics, stage: StageTensors) -> Calibration:
    """Choose the weights of the raw distance by validation HM, then calibrate the sum."""
    options = (
        (fuse_ranked(embedding, raw, weight), weight, share)
        for share, raw in ((share, rank_raw(statistics, stage, share)) for share in VISUAL_SHARES)
        for weight in RAW_WEIGHTS
    )
    fused, weight, share = max(options, key=lambda option: best_beta(option[0]).harmonic.max())
    return _calibrated(fused, raw_weight=weight, visual_share=share)


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
