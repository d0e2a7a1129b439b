"""Distances of clips to class names: by the embedding, by the raw features, or by both."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from model_export.data.gzsl_data import Indices, Reals
from model_export.head.head_config import HeadConfig, Standardisation
from model_export.head.metrics import (
    BetaCurve,
    ClipDistances,
    Distances,
    beta_curve,
    mean_class_accuracy,
    nearest,
)
from model_export.head.network import HeadNetwork
from model_export.head.stage_tensors import Clips, StageTensors, Texts
from model_export.head.standardisation import Statistics, standardise

BETA_STEPS: Final = 76
BETA_STOP: Final = 5.0
BETA_DOUBLINGS: Final = 8


def euclidean(av: Tensor, text: Tensor, n_parts: int = 1) -> Tensor:
    """Distances [n, c] between rows of av [n, d] and text [c, d], the sum over so many equal parts.

    Without matrix products, which round differently for different numbers of rows.
    """
    parts = zip(av.chunk(n_parts, dim=1), text.chunk(n_parts, dim=1), strict=True)
    distances = [torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist") for a, b in parts]
    return torch.stack(distances).sum(dim=0)


@torch.no_grad()
def embedding_distances(
    network: HeadNetwork, mode: Standardisation, statistics: Statistics, clips: Clips, texts: Texts
) -> Tensor:
    """Euclidean distances [n, c] of the standardised embeddings, with the stored statistics."""
    theta_av = network.embed_av(*statistics.fill(clips.visual, clips.audio))
    theta_text = network.embed_text(texts.visual, texts.audio)
    z_av = standardise(mode, theta_av, statistics.av)
    z_text = standardise(mode, theta_text, statistics.text)
    return euclidean(z_av, z_text, network.n_parts)


def raw_cosines(features: Tensor, texts: Tensor, feature_mean: Tensor, text_mean: Tensor) -> Tensor:
    """Cosines [n, c] of L2-normalised features [n, d] and texts [c, d], each side about its own centre.

    The encoders map clips and texts to two separate cones; subtracting the mean of each closes that gap.
    """
    centred = F.normalize(F.normalize(features, dim=1) - feature_mean, dim=1)
    centred_texts = F.normalize(F.normalize(texts, dim=1) - text_mean, dim=1)
    return centred @ centred_texts.T


def raw_distances(statistics: Statistics, clips: Clips, texts: Texts, visual_share: float) -> Tensor:
    """Distances [n, c] of the raw features, on the sphere of embeddings that were standardised per sample.

    sqrt(dim) * sqrt(2 - 2 * cosine), where the cosine is the mean of both tracks' cosines with the weights
    `visual_share` and 1 - `visual_share`; a missing track has no weight.
    """
    s = statistics
    visual = raw_cosines(clips.visual, texts.visual, s.visual_mean, s.text_visual_mean)
    audio = raw_cosines(clips.audio, texts.audio, s.audio_mean, s.text_audio_mean)
    visual_weight = visual_share * clips.visual.any(dim=1, keepdim=True)
    audio_weight = (1 - visual_share) * clips.audio.any(dim=1, keepdim=True)
    # A clip with one track has all weight on it, so its cosine is that track's alone.
    total = (visual_weight + audio_weight).clamp_min(1e-12)
    cosine = (visual_weight * visual + audio_weight * audio) / total
    # |a - b|^2 = 2 - 2 cos for unit vectors; the clamp catches rounding below zero.
    return math.sqrt(len(s.av_mean)) * torch.sqrt((2 - 2 * cosine).clamp_min(0))


@dataclass(frozen=True)
class StageRanked:
    """The evaluation clips of a stage, with their distances to every class.

    Attributes:
        seen_clips: Clips of seen classes.
        unseen_clips: Clips of unseen classes.
        seen: Ids of the seen classes.
        unseen: Ids of the unseen classes.
    """

    seen_clips: ClipDistances
    unseen_clips: ClipDistances
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

    def pooled(self) -> ClipDistances:
        """Seen and unseen clips together."""
        parts = (self.seen_clips, self.unseen_clips)
        return ClipDistances(
            np.concatenate([part.distances for part in parts]),
            np.concatenate([part.class_index for part in parts]),
        )

    def stacked(self, beta: float) -> tuple[Distances, Indices]:
        """Distances [n, c] of all clips to the candidates with beta, and the right column [n] of each."""
        clips, candidates = self.pooled(), self.candidates()
        among = clips.distances[:, candidates] + beta * np.isin(candidates, self.seen)
        return among, (candidates[None, :] == clips.class_index[:, None]).argmax(axis=1)


def rank_stage(stage: StageTensors, distances: Callable[[Clips], Tensor]) -> StageRanked:
    """Compute the distances of a stage's evaluation clips to every class."""
    seen_clips, unseen_clips = (
        ClipDistances(distances(clips).cpu().numpy(), clips.class_index.cpu().numpy())
        for clips in (stage.eval_seen, stage.eval_unseen)
    )
    return StageRanked(seen_clips, unseen_clips, stage.seen.cpu().numpy(), stage.unseen.cpu().numpy())


@torch.no_grad()
def rank_embedding(
    network: HeadNetwork, config: HeadConfig, statistics: Statistics, stage: StageTensors
) -> StageRanked:
    """Distances in the embedding alone, or what the method makes of them."""

    def distances(clips: Clips) -> Tensor:
        found = embedding_distances(network, config.standardisation, statistics, clips, stage.texts)
        filled = statistics.fill(clips.visual, clips.audio)
        return network.final_distances(found, *filled, stage.seen, stage.unseen)

    return rank_stage(stage, distances)


def rank_raw(statistics: Statistics, stage: StageTensors, visual_share: float) -> StageRanked:
    """Distances of the raw features alone."""
    return rank_stage(stage, lambda c: raw_distances(statistics, c, stage.texts, visual_share))


def fuse_ranked(embedding: StageRanked, raw: StageRanked, raw_weight: float) -> StageRanked:
    """Mean of both distances, weighted 1 - `raw_weight` and `raw_weight`."""

    def fused(a: ClipDistances, b: ClipDistances) -> ClipDistances:
        return ClipDistances((1 - raw_weight) * a.distances + raw_weight * b.distances, a.class_index)

    return StageRanked(
        fused(embedding.seen_clips, raw.seen_clips),
        fused(embedding.unseen_clips, raw.unseen_clips),
        embedding.seen,
        embedding.unseen,
    )


def best_beta(ranked: StageRanked) -> BetaCurve:
    """S, U and HM for the reference's 76 betas from 0 to 5; a wider grid while the best beta is the last."""
    stop = BETA_STOP
    curve = ranked.curve(np.linspace(0, stop, BETA_STEPS))
    for _ in range(BETA_DOUBLINGS):
        if curve.best() < BETA_STEPS - 1:
            break
        stop *= 2
        curve = ranked.curve(np.linspace(0, stop, BETA_STEPS))
    return curve
