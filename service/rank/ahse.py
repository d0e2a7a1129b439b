"""Rank with a trained head: fuse, standardise (AHSE, Eq. 1), and take distances in the embedding."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from service.bundle.heads import LoadedAhse
from service.bundle.manifest import Calibration
from service.encode.features import ClipFeatures, TextFeatures, unit
from service.rank.ranking import Scoring, UnknownScore
from service.rank.standardise import standardise

Array = NDArray[np.float32]


@dataclass(frozen=True)
class AhseRanker:
    """Distances in the standardised embedding, between the raw features, or both together."""

    head: LoadedAhse

    def embed_labels(self, texts: TextFeatures) -> Array:
        """Standardised embeddings z of names, float32 [n, dim]; adding a name never moves another."""
        stored = self.head.statistics
        theta = self.head.text(visual=texts.visual, audio=texts.audio)
        return standardise(theta, stored.text_mean, stored.text_std, self.head.facts.standardisation)

    def embed_clip(self, clip: ClipFeatures) -> Array:
        """Standardised embedding z of a clip, float32 [dim]; a stored fill-in stands for a missing track."""
        stored = self.head.statistics
        visual = stored.fill_visual if clip.visual is None else clip.visual
        audio = stored.fill_audio if clip.audio is None else clip.audio
        theta = self.head.av(visual=visual[None], audio=audio[None])
        z: Array = standardise(theta, stored.av_mean, stored.av_std, self.head.facts.standardisation)[0]
        return z

    def distances(self, clip: ClipFeatures, texts: TextFeatures, embedded: Array) -> Array:
        """(1 - raw_weight) || z_av - z_text ||_2 + raw_weight x distance of the raw features.

        Args:
            clip: features of the clip.
            texts: text features of the names, n rows.
            embedded: float32 [n, dim], from `embed_labels`.

        Returns:
            float32 [n].
        """
        raw_weight = np.float32(self.calibration(clip).raw_weight)
        distance: Array = np.linalg.norm(embedded - self.embed_clip(clip), axis=1)
        if raw_weight:
            distance = (1 - raw_weight) * distance + raw_weight * self._raw_distances(clip, texts)
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

    def _raw_distances(self, clip: ClipFeatures, texts: TextFeatures) -> Array:
        """sqrt(dim) x chord between clip and name by the cosines of both tracks, weighted.

        On a sphere as large as that of embeddings standardised per sample, so that both distances can be
        added. A track that the clip lacks has no weight.
        """
        share, stored = self.calibration(clip).visual_share, self.head.statistics
        tracks = [
            (share, clip.visual, texts.visual, stored.visual_mean, stored.text_visual_mean),
            (1 - share, clip.audio, texts.audio, stored.audio_mean, stored.text_audio_mean),
        ]
        cosine, total = np.zeros(len(texts.visual), np.float32), 0.0
        for weight, feature, names, feature_mean, text_mean in tracks:
            if feature is not None:
                cosine = cosine + np.float32(weight) * (
                    unit(names - text_mean) @ unit(feature - feature_mean)
                )
                total += weight
        chord: Array = np.sqrt(np.maximum(0, 2 - 2 * cosine / np.float32(max(total, 1e-12))))
        return np.float32(np.sqrt(self.head.facts.dim)) * chord
