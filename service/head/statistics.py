"""Stored statistics of a head: what training leaves for inference, in one safetensors file."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from service.arrays import Array
from service.errors import BundleInvalidError


@dataclass(frozen=True)
class AhseStatistics:
    """Frozen at the end of training; adding a class never moves another class's embedding (AHSE, Eq. 1).

    The standard deviations are biased and already contain eps, so that z = (theta - mean) / std exactly.
    """

    av_mean: Array
    """float32 [dim]: mean audio-visual embedding of the training clips."""
    av_std: Array
    """float32 [dim], > 0."""
    text_mean: Array
    """float32 [dim]: mean text embedding of the training classes, each class once."""
    text_std: Array
    """float32 [dim], > 0."""
    fill_visual: Array
    """float32 [visual dim]: stands for the visual feature of a clip without picture. A head that was trained
    without pictures has zeros, which stand for that of every clip."""
    fill_audio: Array
    """float32 [audio dim]: the same for the sound."""
    visual_mean: Array
    """float32 [visual dim]: mean of the training clips' unit visual features."""
    audio_mean: Array
    """float32 [audio dim]: mean of the training clips' unit audio features."""
    text_visual_mean: Array
    """float32 [visual dim]: mean of the training classes' unit text features beside the picture."""
    text_audio_mean: Array
    """float32 [audio dim]: mean of the training classes' unit text features beside the sound."""

    def save(self, path: Path) -> None:
        """Write as a safetensors file."""
        save_file(
            {field.name: np.ascontiguousarray(getattr(self, field.name)) for field in fields(self)}, path
        )


def load_ahse_statistics(path: Path, *, dim: int, visual_dim: int, audio_dim: int) -> AhseStatistics:
    """Read and check the statistics file.

    Raises:
        BundleInvalidError: Unreadable, incomplete, of other dims, not finite, or with a std of zero or less.
    """
    tensors = _read_tensors(path)
    shapes = dict.fromkeys(("av_mean", "av_std", "text_mean", "text_std"), (dim,))
    shapes |= dict.fromkeys(("fill_visual", "visual_mean", "text_visual_mean"), (visual_dim,))
    shapes |= dict.fromkeys(("fill_audio", "audio_mean", "text_audio_mean"), (audio_dim,))
    for name, shape in shapes.items():
        _check_tensor(path.name, name, tensors.get(name), shape)
    return AhseStatistics(**{name: tensors[name] for name in shapes})


def _read_tensors(path: Path) -> dict[str, Array]:
    """All tensors of a statistics file.

    Raises:
        BundleInvalidError: It can't be read.
    """
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise BundleInvalidError(f"{path.name} is not a safetensors file") from error


def _check_tensor(file: str, name: str, tensor: Array | None, shape: tuple[int, ...]) -> None:
    """Check one tensor of a statistics file.

    Raises:
        BundleInvalidError: It is missing, of another shape, not finite, or a std of zero or less.
    """
    if tensor is None:
        raise BundleInvalidError(f"{file} has no tensor {name}")
    if tensor.shape != shape or tensor.dtype != np.float32:
        raise BundleInvalidError(f"{file}: {name} is {tensor.dtype} {tensor.shape}, not float32 {shape}")
    if not np.isfinite(tensor).all():
        raise BundleInvalidError(f"{file}: {name} is not finite")
    if name.endswith("_std") and not (tensor > 0).all():
        raise BundleInvalidError(f"{file}: {name} must be positive everywhere")


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
        BundleInvalidError: Unreadable, incomplete, of other dims, not finite, or no covariance.
    """
    tensors = _read_tensors(path)
    shapes = {
        "visual_mean": (visual_dim,),
        "visual_covariance": (visual_dim, visual_dim),
        "audio_mean": (audio_dim,),
        "audio_covariance": (audio_dim, audio_dim),
    }
    for name, shape in shapes.items():
        _check_tensor(path.name, name, tensors.get(name), shape)
    return SimilarityStatistics(**{name: tensors[name] for name in shapes})
