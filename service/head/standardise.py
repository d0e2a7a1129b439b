"""Embedding standardisation with stored statistics (AHSE, Eq. 1), the inference side."""

from __future__ import annotations

import numpy as np

from service.arrays import Array
from service.bundle.head_specs import Standardisation

_EPS = 1e-5


def standardise(theta: Array, mean: Array, std: Array, kind: Standardisation) -> Array:
    """Standardise embeddings; each row depends on itself and on stored numbers only.

    Args:
        theta: float32 [n, dim], the head's output.
        mean: float32 [dim], stored.
        std: float32 [dim], stored, eps inside.
        kind: `per_dimension` uses the stored statistics; `per_sample` scales each row by its own mean and
            deviation (Fei et al., ICCV 2021), which is what lowers hubness; `stored_then_sample` does both.

    Returns:
        float32 [n, dim].
    """
    if kind in ("per_dimension", "stored_then_sample"):
        theta = (theta - mean) / std
    if kind in ("per_sample", "stored_then_sample"):
        centred = theta - theta.mean(axis=-1, keepdims=True)
        theta = centred / np.sqrt(centred.var(axis=-1, keepdims=True) + np.float32(_EPS))
    return theta
