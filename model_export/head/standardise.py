"""Eq. 1 of AHSE: z = (theta - mean) / std, in each of the ways the paper can be read."""

from dataclasses import dataclass

import torch
from torch import Tensor

from model_export.head.config import Standardisation

EPS = 1e-5  # after a ReLU whole dimensions can be dead, and their variance 0


@dataclass(frozen=True)
class Moments:
    """Mean and standard deviation of each embedding dimension.

    Attributes:
        mean: float32 [d].
        std: float32 [d], biased, sqrt(variance + 1e-5), so that z = (theta - mean) / std as it stands.
    """

    mean: Tensor
    std: Tensor


def moments(theta: Tensor) -> Moments:
    """Moments of each dimension over the rows of theta [n, d]."""
    variance, mean = torch.var_mean(theta, dim=0, correction=0)
    return Moments(mean, torch.sqrt(variance + EPS))


def per_dimension(theta: Tensor, stored: Moments) -> Tensor:
    """Standardise each dimension of theta [n, d] by the given moments."""
    return (theta - stored.mean) / stored.std


def per_sample(theta: Tensor) -> Tensor:
    """Standardise each row of theta [n, d] by its own mean and deviation (Fei et al., ICCV 2021)."""
    variance, mean = torch.var_mean(theta, dim=1, keepdim=True, correction=0)
    return (theta - mean) / torch.sqrt(variance + EPS)


def scalar_moments(theta: Tensor) -> Moments:
    """One mean and deviation over all entries of theta [n, d], repeated for each dimension."""
    variance, mean = torch.var_mean(theta, correction=0)
    return Moments(mean.expand(theta.shape[1]), torch.sqrt(variance + EPS).expand(theta.shape[1]))


def moments_for(mode: Standardisation, theta: Tensor) -> Moments:
    """The moments that `mode` takes from theta [n, d]; mean 0 and std 1 where it takes none."""
    if mode in ("per_dimension", "stored_then_sample"):
        return moments(theta)
    if mode == "scalar":
        return scalar_moments(theta)
    return Moments(torch.zeros_like(theta[0]), torch.ones_like(theta[0]))


def standardise(mode: Standardisation, theta: Tensor, stored: Moments) -> Tensor:
    """Turn theta [n, d] into z [n, d] with moments that are already known (Eq. 1)."""
    z = per_dimension(theta, stored)
    return per_sample(z) if mode in ("per_sample", "stored_then_sample") else z
