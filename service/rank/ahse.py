"""Rank with a trained head: fuse, standardise (AHSE, Eq. 1), and take distances in the embedding."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from service.bundle.heads import LoadedAhse
from service.bundle.manifest import Calibration
from service.encode.features import ClipFeatures, TextFeatures
from service.rank.cosines import Cosines
from service.rank.ranking import Scoring, UnknownScore
from service.rank.standardise import standardise

Array = NDArray[np.float32]


# What `embed_labels` keeps of each name besides z: |z|^2, and for each track its similarity to the mean clip
# and the factor that scales its centred text to unit length.
_N_FURTHER = 5
_LEAST = 1e-12


@dataclass(frozen=True)
class AhseRanker:
    """Distances in the standardised embedding, between the raw features, or both together."""

    head: LoadedAhse

    def embed_labels(self, texts: TextFeatures) -> Array:
        """What distances need of each name: float32 [n, dim + 5]; adding a name never moves another.

        The first dim columns are the standardised embedding z (AHSE, Eq. 1).
        """
        stored = self.head.statistics
        theta = self.head.text(visual=texts.visual, audio=texts.audio)
        z = standardise(theta, stored.text_mean, stored.text_std, self.head.facts.standardisation)
        squares = np.sum(z * z, axis=1, keepdims=True)
        visual = _centred(texts.visual, stored.visual_mean, stored.text_visual_mean)
        audio = _centred(texts.audio, stored.audio_mean, stored.text_audio_mean)
        return np.concatenate([z, squares, visual, audio], axis=1)

    def embed_clip(self, clip: ClipFeatures) -> Array:
        """Standardised embedding z of a clip, float32 [dim]; a stored fill-in stands for a missing track."""
        stored = self.head.statistics
        visual = stored.fill_visual if clip.visual is None else clip.visual
        audio = stored.fill_audio if clip.audio is None else clip.audio
        theta = self.head.av(visual=visual[None], audio=audio[None])
        z: Array = standardise(theta, stored.av_mean, stored.av_std, self.head.facts.standardisation)[0]
        return z

    def distances(self, clip: ClipFeatures, cosines: Cosines, embedded: Array) -> Array:
        """(1 - raw_weight) || z_av - z_text ||_2 + raw_weight x distance of the raw features.

        Args:
            clip: features of the clip.
            cosines: of the clip to n names.
            embedded: float32 [n, dim + 5], from `embed_labels`.

        Returns:
            float32 [n].
        """
        raw_weight = np.float32(self.calibration(clip).raw_weight)
        z, squares, further = np.split(embedded, [-_N_FURTHER, 1 - _N_FURTHER], axis=1)
        z_av = self.embed_clip(clip)
        # || a - b ||^2 = |a|^2 - 2 a.b + |b|^2: one product in place of a difference as large as all names.
        distance: Array = np.sqrt(np.maximum(0, squares[:, 0] - 2 * (z @ z_av) + z_av @ z_av))
        if raw_weight:
            distance = (1 - raw_weight) * distance + raw_weight * self._raw_distances(clip, cosines, further)
        return distance

    def scoring(self, clip: ClipFeatures, _embedded: Array) -> Scoring:
        """The stored calibration's part that comes after the distances; the names have no say in it."""
        stored = self.calibration(clip)
        unknown = UnknownScore(stored.unknown_threshold, stored.unknown_scale)
        return Scoring(stored.temperature, stored.beta, unknown)

    def calibration(self, clip: ClipFeatures) -> Calibration:
        """The stored calibration for clips with these tracks."""
        stored = self.head.facts.calibrations
        if clip.visual is None:
            return stored.audio
        return stored.both if clip.audio is not None else stored.visual

    def _raw_distances(self, clip: ClipFeatures, cosines: Cosines, further: Array) -> Array:
        """sqrt(dim) x chord between clip and name by the cosines of both tracks about their means, weighted.

        On a sphere as large as that of embeddings standardised per sample, so that both distances can be
        added. A track that the clip lacks has no weight.
        """
        share, stored = self.calibration(clip).visual_share, self.head.statistics
        tracks = [
            (share, clip.visual, cosines.visual, stored.visual_mean, stored.text_visual_mean, further[:, :2]),
            (1 - share, clip.audio, cosines.audio, stored.audio_mean, stored.text_audio_mean, further[:, 2:]),
        ]
        cosine, total = np.zeros(len(further), np.float32), 0.0
        for weight, feature, similarity, feature_mean, text_mean, of_names in tracks:
            if feature is not None and similarity is not None:
                centred = feature - feature_mean
                scale = 1 / max(float(np.linalg.norm(centred)), _LEAST)
                # (name - text mean) . (feature - feature mean), from what is known of both.
                product = similarity - of_names[:, 0] - text_mean @ centred
                cosine = cosine + np.float32(weight * scale) * product * of_names[:, 1]
                total += weight
        chord: Array = np.sqrt(np.maximum(0, 2 - 2 * cosine / np.float32(max(total, 1e-12))))
        return np.float32(np.sqrt(self.head.facts.dim)) * chord


def _centred(names: Array, feature_mean: Array, text_mean: Array) -> Array:
    """Similarity of each name to the mean clip, and 1 / |name - mean name|: float32 [n, 2]."""
    norms = np.linalg.norm(names - text_mean, axis=1)
    # A name at the mean has no direction; like a zero vector it is similar to nothing.
    factors = np.where(norms > _LEAST, 1 / np.maximum(norms, np.float32(_LEAST)), 0)
    return np.stack([names @ feature_mean, factors], axis=1).astype(np.float32)
