"""Eq. 1 of AHSE, z = (theta - mean) / std, and the statistics that are stored for it after training."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Self

import torch
from safetensors.torch import load_file
from torch import Tensor

from model_export.data.gzsl_data import Track
from model_export.head.head_config import Standardisation
from model_export.head.network import HeadNetwork
from model_export.head.stage_tensors import StageTensors, fill_missing, mean_direction
from service.head.statistics import AhseStatistics as StoredStatistics

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


def moments_for(mode: Standardisation, theta: Tensor) -> Moments:
    """The moments that `mode` takes from theta [n, d]; mean 0 and std 1 where it takes none."""
    if mode in ("per_dimension", "stored_then_sample"):
        return moments(theta)
    return Moments(torch.zeros_like(theta[0]), torch.ones_like(theta[0]))


def standardise(mode: Standardisation, theta: Tensor, stored: Moments) -> Tensor:
    """Turn theta [n, d] into z [n, d] with moments that are already known (Eq. 1)."""
    z = per_dimension(theta, stored)
    return per_sample(z) if mode in ("per_sample", "stored_then_sample") else z


@dataclass(frozen=True)
class Statistics:
    """Everything that inference needs besides the weights; names are those of the safetensors file.

    Attributes:
        av_mean: float32 [dim], of theta_av over the training clips; 0 where the mode stores nothing.
        av_std: float32 [dim], sqrt(biased variance + 1e-5), so that z = (theta - mean) / std; 1 likewise.
        text_mean: float32 [dim], of theta_text over the training classes, each once.
        text_std: float32 [dim].
        fill_visual: float32 [n_visual], unit length, stands for a missing visual track; zeros if no training
            clip had one.
        fill_audio: float32 [n_audio], likewise for audio.
        visual_mean: float32 [n_visual], mean of the L2-normalised training features.
        audio_mean: float32 [n_audio], likewise.
        text_visual_mean: float32 [n_visual], mean of the training classes' L2-normalised text features.
        text_audio_mean: float32 [n_audio], likewise.
    """

    av_mean: Tensor
    av_std: Tensor
    text_mean: Tensor
    text_std: Tensor
    fill_visual: Tensor
    fill_audio: Tensor
    visual_mean: Tensor
    audio_mean: Tensor
    text_visual_mean: Tensor
    text_audio_mean: Tensor

    @property
    def av(self) -> Moments:
        """Moments that standardise theta_av."""
        return Moments(self.av_mean, self.av_std)

    @property
    def text(self) -> Moments:
        """Moments that standardise theta_text."""
        return Moments(self.text_mean, self.text_std)

    def knows(self, track: Track) -> bool:
        """Whether training clips had the track; of `both`, whether they had each."""
        known = {"visual": bool(self.fill_visual.any()), "audio": bool(self.fill_audio.any())}
        return all(known.values()) if track == "both" else known[track]

    def fill(self, visual: Tensor, audio: Tensor) -> tuple[Tensor, Tensor]:
        """Put the fill-in features where a clip's row is all zero."""
        return fill_missing(visual, self.fill_visual), fill_missing(audio, self.fill_audio)

    def save(self, path: Path) -> None:
        """Write the file that the service reads."""
        StoredStatistics(**{f.name: getattr(self, f.name).cpu().numpy() for f in fields(self)}).save(path)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote."""
        return cls(**load_file(path))


@torch.no_grad()
def exact_statistics(network: HeadNetwork, mode: Standardisation, stage: StageTensors) -> Statistics:
    """Take the statistics in one pass over all training clips and, each once, all training classes."""
    network.eval()
    train, texts = stage.filled_train, stage.texts.of_classes(stage.seen)
    theta_av = network.embed_av(train.visual, train.audio)
    av = moments_for(mode, theta_av)
    text = moments_for(mode, network.embed_text(texts.visual, texts.audio))
    return Statistics(
        *(av.mean, av.std, text.mean, text.std),
        *stage.fills,
        *stage.directions,
        *(mean_direction(features) for features in (texts.visual, texts.audio)),
    )
