"""Distances of a stage's evaluation clips to every class, by embedding, by raw features, or by both."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
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
