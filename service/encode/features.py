"""Features of clips and labels, and the pooling that both use."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from service.arrays import Array
from service.media import Tracks


@dataclass(frozen=True)
class ClipFeatures:
    """Features of one clip or segment.

    Attributes:
        visual: float32 [visual dim], unit length; None without a usable visual track.
        audio: float32 [audio dim], unit length; None without a usable audio track.
    """

    visual: Array | None
    audio: Array | None

    @property
    def is_empty(self) -> bool:
        """Whether neither track is usable, so that nothing can be ranked."""
        return self.visual is None and self.audio is None

    @property
    def tracks(self) -> Tracks:
        """Which tracks are usable, of at least one."""
        if self.visual is None:
            return "audio"
        return "visual" if self.audio is None else "both"

    def only(self, tracks: Tracks) -> ClipFeatures:
        """What is left of it with these tracks."""
        return ClipFeatures(
            visual=None if tracks == "audio" else self.visual,
            audio=None if tracks == "visual" else self.audio,
        )


@dataclass(frozen=True)
class TextFeatures:
    """Features of labels, one row per label.

    Attributes:
        visual: float32 [n, visual dim], rows of unit length, comparable with `ClipFeatures.visual`.
        audio: float32 [n, audio dim], rows of unit length, comparable with `ClipFeatures.audio`.
        nearness: float32 [n], -1..1: cosine to the nearest name that the encoders were trained with; None
            when the bundle does not tell.
    """

    visual: Array
    audio: Array
    nearness: Array | None = None

    @classmethod
    def empty(cls, n: int, visual_dim: int, audio_dim: int, *, with_nearness: bool) -> TextFeatures:
        """Uninitialised arrays for the features of n labels."""
        return cls(
            np.empty((n, visual_dim), np.float32),
            np.empty((n, audio_dim), np.float32),
            np.empty(n, np.float32) if with_nearness else None,
        )


def pool(features: Array) -> Array:
    """Mean over the first axis, scaled to unit length: float32 [n, dim] -> [dim].

    The rows are scaled to unit length first, so that they have equal weight.
    """
    return unit(unit(features).mean(axis=0))


def unit(vectors: Array) -> Array:
    """Scale the last axis to unit length; a zero vector stays zero."""
    norms = np.linalg.norm(vectors, axis=-1, keepdims=True)
    scaled: Array = vectors / np.maximum(norms, np.float32(1e-12))
    return scaled
