"""No trained head: standardised similarity of each track to its own text, fused."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from service.arrays import Array
from service.bundle.head_specs import AgreementScore, SimilarityScores, SimilaritySpec
from service.bundle.manifest import Manifest
from service.encode.features import ClipFeatures, TextFeatures, unit
from service.head.head import Cosines
from service.head.statistics import SimilarityStatistics, load_similarity_statistics
from service.ranking import Scoring, UnknownScore


@dataclass(frozen=True)
class SimilarityNames:
    """How similar clips are to each of n names on average.

    Attributes:
        visual_mean: float32 [n], mean over clips of the similarity to the picture.
        visual_std: float32 [n], its standard deviation, > 0.
        audio_mean: float32 [n], the same for the sound.
        audio_std: float32 [n], the same for the sound.
    """

    visual_mean: Array
    visual_std: Array
    audio_mean: Array
    audio_std: Array


@dataclass(frozen=True)
class _Space:
    """Features of one track, changed so that dot products are standardised similarities.

    Attributes:
        scale: Factor on clips.
        mean: float32 [dim], of clips; None: zero.
        root: float32 [dim, dim], S^1/2 of the covariance S of clips; None: the identity.
        inverse_root: float32 [dim, dim], S^-1/2; None: the identity.
    """

    scale: float
    mean: Array | None = None
    root: Array | None = None
    inverse_root: Array | None = None

    def of_names(self, texts: Array) -> Array:
        """Text features [n, dim] as unit vectors."""
        return unit(texts if self.root is None else texts @ self.root)

    def of_clip(self, feature: Array) -> Array:
        """A clip's feature [dim]."""
        centred = feature if self.mean is None else feature - self.mean
        whitened = centred if self.inverse_root is None else centred @ self.inverse_root
        return np.asarray(np.float32(self.scale) * whitened, np.float32)


@dataclass(frozen=True)
class SimilarityHead:
    """Late fusion of the encoders' own similarities.

    The similarity of a clip to a name is compared with what clips have to that name on average: a name that
    is similar to every clip (a hub) wins nothing by it. Mean and deviation come from stored moments of the
    clips' features, so names never seen have theirs, and adding a name moves no other.

    Attributes:
        spec: The head's part of the manifest.
        statistics: Moments of clips; None: similarity is the cosine times the encoder's logit scale.
        visual_scale: Logit scale of the image encoder.
        audio_scale: Logit scale of the audio encoder.
    """

    spec: SimilaritySpec
    statistics: SimilarityStatistics | None
    visual_scale: float
    audio_scale: float

    @classmethod
    def load(cls, directory: Path, spec: SimilaritySpec, manifest: Manifest) -> SimilarityHead:
        """Read the statistics.

        Raises:
            BundleInvalidError: They are not what the manifest says.
        """
        visual, audio = manifest.visual, manifest.audio
        statistics = None
        if spec.statistics is not None:
            file = directory / spec.statistics
            statistics = load_similarity_statistics(file, visual.dim, audio.dim)
        return cls(spec, statistics, visual.logit_scale, audio.logit_scale)

    def embed_names(self, texts: TextFeatures) -> SimilarityNames:
        """What the similarity to each name is compared with."""
        stored, n = self.statistics, len(texts.visual)
        if stored is None:
            # Means of 0 and deviations of 1 / scale: cosine x scale, as CLIP and CLAP rank.
            return SimilarityNames(
                np.zeros(n, np.float32),
                np.full(n, 1 / self.visual_scale, np.float32),
                np.zeros(n, np.float32),
                np.full(n, 1 / self.audio_scale, np.float32),
            )
        return SimilarityNames(
            *_moments(texts.visual, stored.visual_mean, stored.visual_covariance),
            *_moments(texts.audio, stored.audio_mean, stored.audio_covariance),
        )

    def empty_names(self, n: int) -> SimilarityNames:
        """Room for n names."""
        return SimilarityNames(*np.empty((4, n), np.float32))

    def embed_clip(self, clip: ClipFeatures) -> ClipFeatures:
        """The features as they are: without a trained head, tracks meet only in their distances."""
        return clip

    def distances(self, clip: ClipFeatures, cosines: Cosines, names: SimilarityNames) -> Array:
        """Minus the standardised similarity, weighted over the clip's tracks.

        Args:
            clip: Features of the clip; which tracks it has shows in the cosines too.
            cosines: Of the clip to n names.
            names: Of the same n names.

        Returns:
            float32 [n]; below zero where a clip is more similar to a name than clips are on average.
        """
        visual, audio = self.track_similarities(clip, cosines, names)
        if visual is None or audio is None:
            alone = audio if visual is None else visual
            if alone is None:
                raise ValueError("a clip without tracks has no distance to anything")
            return -alone
        share = self.spec.visual_share
        fused: Array = np.float32(share) * visual + np.float32(1 - share) * audio
        return -fused

    def track_similarities(
        self, clip: ClipFeatures, cosines: Cosines, names: SimilarityNames
    ) -> tuple[Array | None, Array | None]:
        """Standardised similarity of each track, z = (cosine - mean) / std."""
        del clip
        visual = audio = None
        if cosines.visual is not None:
            visual = (cosines.visual - names.visual_mean) / names.visual_std
        if cosines.audio is not None:
            audio = (cosines.audio - names.audio_mean) / names.audio_std
        return visual, audio

    def name_vectors(self, texts: TextFeatures, names: SimilarityNames) -> Array:
        """Unit vectors [n, visual dim + audio dim]. The dot product with a clip's is minus its distance.

        With mean u and covariance S of clips, a name t is g = S^1/2 t / |S^1/2 t| and a clip f is
        c = S^-1/2 (f - u), so g . c = t . (f - u) / sqrt(t' S t): the standardised similarity. And g . g' is
        the correlation, over clips, of their similarities to two names.
        """
        del names  # their deviations are the lengths that `unit` divides by
        visual, audio = self._spaces
        parts = [visual.of_names(texts.visual), audio.of_names(texts.audio)]
        return np.concatenate(parts, axis=1) / np.float32(math.sqrt(2))

    def clip_vector(self, clip: ClipFeatures, dims: tuple[int, int]) -> Array:
        """The whitened features of both tracks, weighted as in `distances`; zeros for a missing track."""
        share = self.spec.visual_share
        if clip.visual is None or clip.audio is None:
            share = 0.0 if clip.visual is None else 1.0
        parts = [
            np.zeros(dim, np.float32)
            if feature is None
            else np.float32(weight * math.sqrt(2)) * space.of_clip(feature)
            for feature, weight, space, dim in zip(
                (clip.visual, clip.audio), (share, 1 - share), self._spaces, dims, strict=True
            )
        ]
        return np.concatenate(parts)

    def vector_width(self, dims: tuple[int, int]) -> int:
        """Both features."""
        return sum(dims)

    @cached_property
    def _spaces(self) -> tuple[_Space, _Space]:
        """Of the picture and of the sound. Large matrices are decomposed when a vector is first asked for."""
        stored = self.statistics
        if stored is None:
            return _Space(self.visual_scale), _Space(self.audio_scale)
        return (
            _Space(1.0, stored.visual_mean, *_roots(stored.visual_covariance)),
            _Space(1.0, stored.audio_mean, *_roots(stored.audio_covariance)),
        )

    @property
    def agreement(self) -> AgreementScore | None:
        """As stored."""
        return self.spec.agreement

    def scoring(self, clip: ClipFeatures, names: SimilarityNames) -> Scoring:
        """The stored temperature and measure of unknown, which take labelled clips.

        Without them the encoders' own sharpness is kept: one typical deviation of these names counts in the
        softmax as much as it does in CLIP's and CLAP's, and nothing tells whether any name fits.
        """
        if self.spec.scores is not None:
            return _fitted(self.spec.scores, clip, len(names.visual_mean))
        share = self.spec.visual_share
        visual = 1 / (self.visual_scale * float(names.visual_std.mean()))
        audio = 1 / (self.audio_scale * float(names.audio_std.mean()))
        if clip.visual is None:
            return Scoring(audio)
        return Scoring(visual if clip.audio is None else share * visual + (1 - share) * audio)


def _fitted(scores: SimilarityScores, clip: ClipFeatures, n_names: int) -> Scoring:
    """The stored numbers for clips with these tracks.

    The best of many names is more similar than the best of few, also where none fits: so the threshold of
    unknown grows with the logarithm of their number.
    """
    one_track = scores.audio if clip.visual is None else scores.visual
    score = scores.both if clip.visual is not None and clip.audio is not None else one_track
    threshold = score.unknown_threshold + score.unknown_slope * math.log(n_names)
    return Scoring(score.temperature, unknown=UnknownScore(-threshold, score.unknown_scale))


def _roots(covariance: Array) -> tuple[Array, Array]:
    """S^1/2 and S^-1/2 of a symmetric matrix; in float64, since small eigenvalues count in the second."""
    values, vectors = np.linalg.eigh(covariance.astype(np.float64))
    deviations = np.sqrt(np.maximum(values, 1e-12))
    root, inverse = (vectors * deviations) @ vectors.T, (vectors / deviations) @ vectors.T
    return root.astype(np.float32), inverse.astype(np.float32)


def _moments(texts: Array, mean: Array, covariance: Array) -> tuple[Array, Array]:
    """Mean and standard deviation of the clips' similarity to each text: [n, dim] to [n] each.

    Over clips with mean u and covariance S, t . f has the mean t . u and the variance t' S t.
    """
    variance = np.einsum("nd,nd->n", texts @ covariance, texts)
    return texts @ mean, np.sqrt(np.maximum(variance, np.float32(1e-12)))
