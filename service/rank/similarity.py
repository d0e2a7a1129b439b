"""Rank without a trained head: standardised similarity of each track to its own text, fused."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from service.bundle.heads import LoadedSimilarity
from service.bundle.manifest import SimilarityScores
from service.encode.features import ClipFeatures, TextFeatures
from service.rank.cosines import Cosines
from service.rank.ranking import Scoring, UnknownScore

Array = NDArray[np.float32]


@dataclass(frozen=True)
class SimilarityRanker:
    """Late fusion of CLIP and CLAP.

    The similarity of a clip to a name is compared with what clips have to that name on average: a name that
    is similar to every clip (a hub) wins nothing by it. Mean and deviation come from stored moments of the
    clips' features, so names never seen have theirs, and adding a name moves no other.
    """

    head: LoadedSimilarity
    visual_scale: float
    """logit scale of the image encoder."""
    audio_scale: float
    """logit scale of the sound encoder."""

    def embed_labels(self, texts: TextFeatures) -> Array:
        """What similarity to each name is compared with: float32 [n, 4].

        The columns are mean and standard deviation over clips, of the picture and then of the sound.
        """
        stored = self.head.statistics
        if stored is None:
            return _not_standardised(len(texts.visual), self.visual_scale, self.audio_scale)
        visual = _moments(texts.visual, stored.visual_mean, stored.visual_covariance)
        audio = _moments(texts.audio, stored.audio_mean, stored.audio_covariance)
        return np.concatenate([visual, audio], axis=1)

    def distances(self, clip: ClipFeatures, cosines: Cosines, embedded: Array) -> Array:
        """Minus the standardised similarity, z = (cosine - mean) / std, weighted over the clip's tracks.

        Args:
            clip: features of the clip; which tracks it has shows in the cosines too.
            cosines: of the clip to n names.
            embedded: float32 [n, 4], from `embed_labels`.

        Returns:
            float32 [n]; below zero where a clip is more similar to a name than clips are on average.
        """
        del clip
        tracks = (
            (self.head.facts.visual_share, cosines.visual, embedded[:, :2]),
            (1 - self.head.facts.visual_share, cosines.audio, embedded[:, 2:]),
        )
        present = [
            (weight, (cosine - moments[:, 0]) / moments[:, 1])
            for weight, cosine, moments in tracks
            if cosine is not None
        ]
        if len(present) == 1:
            return -present[0][1]
        (share, visual), (rest, audio) = present
        fused: Array = np.float32(share) * visual + np.float32(rest) * audio
        return -fused

    def scoring(self, clip: ClipFeatures, embedded: Array) -> Scoring:
        """The stored temperature and measure of unknown, which take labelled clips.

        Without them the encoders' own sharpness is kept: one typical deviation of these names counts in the
        softmax as much as it does in CLIP's and CLAP's, and nothing tells whether any name fits.
        """
        if self.head.facts.scores is not None:
            return _fitted(self.head.facts.scores, clip, len(embedded))
        share = self.head.facts.visual_share
        visual = 1 / (self.visual_scale * float(embedded[:, 1].mean()))
        audio = 1 / (self.audio_scale * float(embedded[:, 3].mean()))
        if clip.visual is None:
            return Scoring(audio)
        return Scoring(visual if clip.audio is None else share * visual + (1 - share) * audio)


def _not_standardised(n: int, visual_scale: float, audio_scale: float) -> Array:
    """Means of 0 and deviations of 1 / scale: similarity is then cosine x scale, as CLIP and CLAP rank."""
    row = np.array([0, 1 / visual_scale, 0, 1 / audio_scale], np.float32)
    return np.tile(row, (n, 1))


def _fitted(scores: SimilarityScores, clip: ClipFeatures, n_names: int) -> Scoring:
    """The stored numbers for clips with these tracks.

    The best of many names is more similar than the best of few, also where none fits: so the threshold of
    unknown grows with the logarithm of their number.
    """
    one_track = scores.audio if clip.visual is None else scores.visual
    score = scores.both if clip.visual is not None and clip.audio is not None else one_track
    threshold = score.unknown_threshold + score.unknown_slope * math.log(n_names)
    return Scoring(score.temperature, unknown=UnknownScore(-threshold, score.unknown_scale))


def _moments(texts: Array, mean: Array, covariance: Array) -> Array:
    """Mean and standard deviation of the clips' similarity to each text: [n, dim] -> [n, 2]."""
    variance = np.einsum("nd,nd->n", texts @ covariance, texts)
    return np.stack([texts @ mean, np.sqrt(np.maximum(variance, np.float32(1e-12)))], axis=1)
