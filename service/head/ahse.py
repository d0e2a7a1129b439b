"""The trained AHSE head: fuse, standardise (Eq. 1), and take distances in the embedding."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from service.arrays import Array
from service.bundle.head_specs import AgreementScore, AhseSpec, Calibration
from service.bundle.manifest import Manifest
from service.encode.features import ClipFeatures, TextFeatures
from service.head.head import Cosines
from service.head.standardise import standardise
from service.head.statistics import AhseStatistics, load_ahse_statistics
from service.ranking import Scoring, UnknownScore
from service.runtime.graph import Axes, Graph, Inputs
from service.runtime.providers import Runtime

# Shorter vectors have no direction.
_MIN_NORM = 1e-12


@dataclass(frozen=True)
class AhseClip:
    """A clip in the embedding.

    Attributes:
        z: float32 [dim], standardised audio-visual embedding (AHSE, Eq. 1).
        features: What it was made of.
    """

    z: Array
    features: ClipFeatures


@dataclass(frozen=True)
class AhseNames:
    """n names in the embedding, and what raw distances need of them.

    Attributes:
        z: float32 [n, dim], standardised text embeddings (AHSE, Eq. 1).
        z_square: float32 [n, parts], |z|^2 of each part.
        visual_mean_similarity: float32 [n], similarity of the text feature to the mean picture.
        visual_factor: float32 [n], 1 / |text feature - mean text feature|; 0 for a name at the mean.
        audio_mean_similarity: float32 [n], the same for the sound.
        audio_factor: float32 [n], the same for the sound.
    """

    z: Array
    z_square: Array
    visual_mean_similarity: Array
    visual_factor: Array
    audio_mean_similarity: Array
    audio_factor: Array


@dataclass(frozen=True)
class AhseHead:
    """Distances in the standardised embedding, between the raw features, or both together.

    Attributes:
        spec: The head's part of the manifest.
        av: Graph from features of both tracks to theta, [n, dim].
        text: Graph from text features of both tracks to theta, [n, dim].
        statistics: What standardises theta, and the raw features.
    """

    spec: AhseSpec
    av: Graph
    text: Graph
    statistics: AhseStatistics

    @classmethod
    def load(cls, directory: Path, spec: AhseSpec, manifest: Manifest, runtime: Runtime) -> AhseHead:
        """Open the graphs and the statistics.

        Raises:
            BundleInvalidError: One of them is not what the manifest says.
        """
        visual_dim, audio_dim = manifest.visual.dim, manifest.audio.dim
        features: Inputs = {"visual": ("float", (visual_dim,)), "audio": ("float", (audio_dim,))}
        axes = Axes(features, {"theta": spec.dim})
        return cls(
            spec,
            av=Graph(directory / spec.av_graph, axes, runtime),
            text=Graph(directory / spec.text_graph, axes, runtime),
            statistics=load_ahse_statistics(
                directory / spec.statistics, dim=spec.dim, visual_dim=visual_dim, audio_dim=audio_dim
            ),
        )

    def embed_names(self, texts: TextFeatures) -> AhseNames:
        """Standardised embeddings of names, and their place among the raw features."""
        stored = self.statistics
        theta = self.text(visual=texts.visual, audio=texts.audio)
        z = standardise(theta, stored.text_mean, stored.text_std, self.spec.standardisation)
        parts = (z * z).reshape(len(z), self.spec.parts, self.spec.dim // self.spec.parts)
        return AhseNames(
            z=z,
            z_square=np.sum(parts, axis=2),
            visual_mean_similarity=texts.visual @ stored.visual_mean,
            visual_factor=_inverse_norms(texts.visual - stored.text_visual_mean),
            audio_mean_similarity=texts.audio @ stored.audio_mean,
            audio_factor=_inverse_norms(texts.audio - stored.text_audio_mean),
        )

    def empty_names(self, n: int) -> AhseNames:
        """Room for n names; z is read column by column, and lies so."""
        z, z_square = (np.empty((width, n), np.float32).T for width in (self.spec.dim, self.spec.parts))
        return AhseNames(z, z_square, *np.empty((4, n), np.float32))

    def embed_clip(self, clip: ClipFeatures) -> AhseClip:
        """Fuse and standardise; a stored fill-in stands for a missing track."""
        stored = self.statistics
        # What a head would make of a track that its training clips never had is chance.
        visual = clip.visual if clip.visual is not None and stored.fill_visual.any() else stored.fill_visual
        audio = clip.audio if clip.audio is not None and stored.fill_audio.any() else stored.fill_audio
        theta = self.av(visual=visual[None], audio=audio[None])
        z = standardise(theta, stored.av_mean, stored.av_std, self.spec.standardisation)[0]
        return AhseClip(z, clip)

    def distances(self, clip: AhseClip, cosines: Cosines, names: AhseNames) -> Array:
        """(1 - raw_weight) || z_av - z_text ||_2 + raw_weight x distance of the raw features.

        Of an embedding in parts the norms of all of them are added.

        Args:
            clip: The clip in the embedding.
            cosines: Of the clip to n names.
            names: Of the same n names.

        Returns:
            float32 [n].
        """
        raw_weight = np.float32(self.calibration(clip.features).raw_weight)
        if raw_weight == 1:  # the head brings nothing: the product with all names is spared
            return self._raw_distances(clip.features, cosines, names)
        distance = self._embedding_distances(clip, names)
        if raw_weight:
            raw = self._raw_distances(clip.features, cosines, names)
            distance = (1 - raw_weight) * distance + raw_weight * raw
        return distance

    def _embedding_distances(self, clip: AhseClip, names: AhseNames) -> Array:
        distance = np.zeros(len(names.z), np.float32)
        width = self.spec.dim // self.spec.parts
        for part in range(self.spec.parts):
            columns = slice(part * width, (part + 1) * width)
            z, own = names.z[:, columns], clip.z[columns]
            # || a - b ||^2 = |b|^2 - 2 a.b + |a|^2: one product in place of a difference of all names.
            square = names.z_square[:, part] - 2 * (z @ own) + own @ own
            # Rounding may leave a square of two equal vectors below zero.
            distance += np.sqrt(np.maximum(0, square))
        return distance

    def track_similarities(
        self, clip: ClipFeatures, cosines: Cosines, names: AhseNames
    ) -> tuple[Array | None, Array | None]:
        """Cosine of each raw feature and text feature, each about the mean of its kind."""
        stored, visual, audio = self.statistics, None, None
        if clip.visual is not None and cosines.visual is not None:
            centred = clip.visual - stored.visual_mean
            visual = names.visual_factor * _centred_cosines(
                cosines.visual, names.visual_mean_similarity, stored.text_visual_mean, centred
            )
        if clip.audio is not None and cosines.audio is not None:
            centred = clip.audio - stored.audio_mean
            audio = names.audio_factor * _centred_cosines(
                cosines.audio, names.audio_mean_similarity, stored.text_audio_mean, centred
            )
        return visual, audio

    def name_vectors(self, texts: TextFeatures, names: AhseNames) -> Array:
        """Vectors [n, dim + 1], and visual dim + audio dim more where raw distances count.

        The dot product with a clip is, up to a number that depends on the clip alone, minus half the weighted
        mean of the squares of both distances that `distances` takes the mean of. So it orders names exactly
        as these do where one of both counts (raw_weight 0 or 1) and the embedding has one part, else nearly.
        """
        z_square = names.z_square.sum(axis=1, keepdims=True)
        parts: list[Array] = [names.z, np.asarray(-z_square / 2, np.float32)]
        if self._uses_raw:
            stored = self.statistics
            parts.append((texts.visual - stored.text_visual_mean) * names.visual_factor[:, None])
            parts.append((texts.audio - stored.text_audio_mean) * names.audio_factor[:, None])
        return np.concatenate(parts, axis=1)

    def clip_vector(self, clip: ClipFeatures, dims: tuple[int, int]) -> Array:
        """A vector [dim + 1], and visual dim + audio dim more where raw distances count."""
        del dims  # those of the statistics
        stored, weights, z = self.statistics, self.calibration(clip), self.embed_clip(clip).z
        parts = [np.append(z, np.float32(1)) * np.float32(1 - weights.raw_weight)]
        if self._uses_raw:
            share = weights.visual_share
            total = share * (clip.visual is not None) + (1 - share) * (clip.audio is not None)
            # |z|^2 = dim where it is standardised per sample: then both parts weigh as in `distances`.
            factor = weights.raw_weight * self.spec.dim / max(total, _MIN_NORM)
            parts.append(_direction(clip.visual, stored.visual_mean) * np.float32(factor * share))
            parts.append(_direction(clip.audio, stored.audio_mean) * np.float32(factor * (1 - share)))
        return np.concatenate(parts)

    def vector_width(self, dims: tuple[int, int]) -> int:
        """The embedding, a number for the lengths of names and, where raw distances count, both features."""
        return self.spec.dim + 1 + (sum(dims) if self._uses_raw else 0)

    @property
    def _uses_raw(self) -> bool:
        stored = self.spec.calibrations
        return any(one.raw_weight > 0 for one in (stored.both, stored.visual, stored.audio))

    @property
    def agreement(self) -> AgreementScore | None:
        """As stored."""
        return self.spec.agreement

    def scoring(self, clip: ClipFeatures, names: AhseNames) -> Scoring:
        """The stored calibration for these tracks; the names do not matter."""
        del names
        stored = self.calibration(clip)
        unknown = UnknownScore(stored.unknown_threshold, stored.unknown_scale)
        return Scoring(stored.temperature, stored.beta, unknown if stored.tells_unknown else None)

    def calibration(self, clip: ClipFeatures) -> Calibration:
        """The stored calibration for clips with these tracks."""
        stored = self.spec.calibrations
        if clip.visual is None:
            return stored.audio
        return stored.both if clip.audio is not None else stored.visual

    def _raw_distances(self, clip: ClipFeatures, cosines: Cosines, names: AhseNames) -> Array:
        """sqrt(dim) x chord between clip and name, by the cosines of both tracks about their means.

        A track that the clip lacks has no weight.
        """
        visual, audio = self.track_similarities(clip, cosines, names)
        share = self.calibration(clip).visual_share
        cosine, total = np.zeros(len(names.z), np.float32), 0.0
        for similarity, weight in ((visual, share), (audio, 1 - share)):
            if similarity is not None:
                cosine = cosine + np.float32(weight) * similarity
                total += weight
        # Two unit vectors with cosine c are sqrt(2 - 2 c) apart, the chord of their angle.
        chord: Array = np.sqrt(np.maximum(0, 2 - 2 * cosine / np.float32(max(total, 1e-12))))
        # An embedding standardised per sample has length sqrt(dim): on a sphere of that radius the chord can
        # be added to distances in the embedding.
        return np.float32(np.sqrt(self.spec.dim)) * chord


def _centred_cosines(cosines: Array, mean_similarity: Array, text_mean: Array, centred: Array) -> Array:
    """(name - text mean) . (feature - feature mean) / |feature - feature mean| for n names.

    Without a pass over their features. With t a name, m the text mean, f the feature, u the feature mean:
        (t - m) . (f - u)  =  t . f  -  t . u  -  m . (f - u)

    Args:
        cosines: t . f, float32 [n].
        mean_similarity: t . u, float32 [n].
        text_mean: m, float32 [dim].
        centred: f - u, float32 [dim].
    """
    products = cosines - mean_similarity - text_mean @ centred
    return products * np.float32(_inverse_norm(centred))


def _direction(feature: Array | None, mean: Array) -> Array:
    """Of a feature from the mean, with length 1; zeros without a feature: float32 [dim]."""
    return (
        np.zeros_like(mean)
        if feature is None
        else (feature - mean) * np.float32(_inverse_norm(feature - mean))
    )


def _inverse_norm(vector: Array) -> float:
    return 1 / max(float(np.linalg.norm(vector)), _MIN_NORM)


def _inverse_norms(vectors: Array) -> Array:
    """1 / |vector| of each row: float32 [n]; 0 for one without direction, which is similar to nothing."""
    norms = np.linalg.norm(vectors, axis=1)
    factors = np.where(norms > _MIN_NORM, 1 / np.maximum(norms, np.float32(_MIN_NORM)), 0)
    return factors.astype(np.float32)
