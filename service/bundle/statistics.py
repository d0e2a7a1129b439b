"""Stored standardisation statistics: the numbers of Eq. 1 that training leaves for inference."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from service.errors import BundleInvalidError

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Statistics:
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
    """float32 [visual dim]: stands for the visual feature of a clip without picture."""
    fill_audio: Array
    """float32 [audio dim]: stands for the audio feature of a clip without sound."""
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


def load_statistics(path: Path, *, dim: int, visual_dim: int, audio_dim: int) -> Statistics:
    """Read and check the statistics file.

    Raises:
        BundleInvalidError: unreadable, incomplete, of other dims, not finite, or with a std of zero or less.
    """
    tensors = read_tensors(path)
    shapes = dict.fromkeys(("av_mean", "av_std", "text_mean", "text_std"), (dim,))
    shapes |= dict.fromkeys(("fill_visual", "visual_mean", "text_visual_mean"), (visual_dim,))
    shapes |= dict.fromkeys(("fill_audio", "audio_mean", "text_audio_mean"), (audio_dim,))
    for name, shape in shapes.items():
        check_tensor(path.name, name, tensors.get(name), shape)
    return Statistics(**{name: tensors[name] for name in shapes})


def read_tensors(path: Path) -> dict[str, Array]:
    """All tensors of a statistics file.

    Raises:
        BundleInvalidError: it can't be read.
    """
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise BundleInvalidError(f"{path.name} is not a safetensors file") from error


def check_tensor(file: str, name: str, tensor: Array | None, shape: tuple[int, ...]) -> None:
    """Check one tensor of a statistics file.

    Raises:
        BundleInvalidError: it is missing, of another shape, not finite, or a std of zero or less.
    """
    if tensor is None:
        raise BundleInvalidError(f"{file} has no tensor {name}")
    if tensor.shape != shape or tensor.dtype != np.float32:
        raise BundleInvalidError(f"{file}: {name} is {tensor.dtype} {tensor.shape}, not float32 {shape}")
    if not np.isfinite(tensor).all():
        raise BundleInvalidError(f"{file}: {name} is not finite")
    if name.endswith("_std") and not (tensor > 0).all():
        raise BundleInvalidError(f"{file}: {name} must be positive everywhere")
