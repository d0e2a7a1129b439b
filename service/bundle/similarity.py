"""Stored statistics of a bundle without a trained head: how similar clips are to any text, on average."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from service.bundle.statistics import check_tensor, read_tensors

Array = NDArray[np.float32]


@dataclass(frozen=True)
class SimilarityStatistics:
    """Moments of the clips' unit features.

    For any unit text feature t, known or not, t @ mean is the average of the clips' similarity to it and
    t @ covariance @ t its variance, so a new name needs no clips and moves no other name.
    """

    visual_mean: Array
    """float32 [visual dim]."""
    visual_covariance: Array
    """float32 [visual dim, visual dim], positive definite."""
    audio_mean: Array
    """float32 [audio dim]."""
    audio_covariance: Array
    """float32 [audio dim, audio dim], positive definite."""

    def save(self, path: Path) -> None:
        """Write as a safetensors file."""
        save_file(
            {field.name: np.ascontiguousarray(getattr(self, field.name)) for field in fields(self)}, path
        )


def load_similarity_statistics(path: Path, visual_dim: int, audio_dim: int) -> SimilarityStatistics:
    """Read and check the statistics file.

    Raises:
        BundleInvalidError: unreadable, incomplete, of other dims, not finite, or no covariance.
    """
    tensors = read_tensors(path)
    shapes = {
        "visual_mean": (visual_dim,),
        "visual_covariance": (visual_dim, visual_dim),
        "audio_mean": (audio_dim,),
        "audio_covariance": (audio_dim, audio_dim),
    }
    for name, shape in shapes.items():
        check_tensor(path.name, name, tensors.get(name), shape)
    return SimilarityStatistics(**{name: tensors[name] for name in shapes})
