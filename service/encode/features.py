"""Values of the encoding step, and the pooling that both clips and names use."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from service.arrays import Array


@dataclass(frozen=True)
class ClipFeatures:
    """What the encoders say of one clip."""

    visual: Array | None
    """float32 [visual dim], unit length; None when no picture was used."""
    audio: Array | None
    """float32 [audio dim], unit length; None when no sound was used."""

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to rank by."""
        return self.visual is None and self.audio is None


@dataclass(frozen=True)
class TextFeatures:
    """What the text encoders say of names, one row a name."""

    visual: Array
    """float32 [n, visual dim], rows of unit length."""
    audio: Array
    """float32 [n, audio dim], rows of unit length."""
    nearness: Array | None = None
    """float32 [n], -1..1: cosine to the nearest name that the encoders were trained with; None: not known."""

    @classmethod
    def empty(cls, n: int, visual_dim: int, audio_dim: int, *, with_nearness: bool) -> TextFeatures:
        """Room for the features of n names, not filled."""
        return cls(
            np.empty((n, visual_dim), np.float32),
            np.empty((n, audio_dim), np.float32),
            np.empty(n, np.float32) if with_nearness else None,
        )


def pool(features: Array) -> Array:
    """Mean over the first axis, scaled back to unit length: float32 [n, dim] -> [dim].

    The rows are scaled first, so that each counts alike.
    """
    return unit(unit(features).mean(axis=0))


def unit(vectors: Array) -> Array:
    """Scale the last axis to unit length; a zero vector stays zero."""
    norms = np.linalg.norm(vectors, axis=-1, keepdims=True)
    scaled: Array = vectors / np.maximum(norms, np.float32(1e-12))
    return scaled
