"""The stored standardisation statistics: taken once after training, then used unchanged everywhere."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Self

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

from model_export.head.batches import StageTensors, fill_missing, mean_direction
from model_export.head.config import Standardisation
from model_export.head.network import HeadNetwork
from model_export.head.standardise import Moments, moments_for
from service.head.statistics import AhseStatistics as StoredStatistics


@dataclass(frozen=True)
class Statistics:
    """Everything that inference needs beside the weights; names are those of the safetensors file.

    Attributes:
        av_mean: float32 [64], of theta_av over the training clips; 0 where the mode stores nothing.
        av_std: float32 [64], sqrt(biased variance + 1e-5), so that z = (theta - mean) / std; 1 likewise.
        text_mean: float32 [64], of theta_text over the training classes, each once.
        text_std: float32 [64].
        fill_visual: float32 [n_visual], unit length, stands for the picture of a clip without one.
        fill_audio: float32 [n_audio], unit length, stands for the sound of a clip without it.
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

    def fill(self, visual: Tensor, audio: Tensor) -> tuple[Tensor, Tensor]:
        """Put the fill-in features where a clip's row is all zero."""
        return fill_missing(visual, self.fill_visual), fill_missing(audio, self.fill_audio)

    def save(self, path: Path) -> None:
        """Write the file that the service reads, by the service's own definition of it."""
        StoredStatistics(**{f.name: getattr(self, f.name).cpu().numpy() for f in fields(self)}).save(path)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote."""
        return cls(**load_file(path))


def fill_features(stage: StageTensors) -> tuple[Tensor, Tensor]:
    """Unit-length mean of the training clips' visual and audio features: what a missing track becomes."""
    tracks = (stage.train.visual, stage.train.audio)
    visual, audio = (F.normalize(mean_direction(track), dim=0) for track in tracks)
    return visual, audio


@torch.no_grad()
def exact_statistics(network: HeadNetwork, mode: Standardisation, stage: StageTensors) -> Statistics:
    """One pass in evaluation mode over all training clips and, each once, all training classes."""
    network.eval()
    fills = fill_features(stage)
    train, texts = stage.train, stage.texts.of_classes(stage.seen)
    theta_av = network.embed_av(fill_missing(train.visual, fills[0]), fill_missing(train.audio, fills[1]))
    av = moments_for(mode, theta_av)
    text = moments_for(mode, network.embed_text(texts.visual, texts.audio))
    return Statistics(
        *(av.mean, av.std, text.mean, text.std),
        *fills,
        *(mean_direction(features) for features in (train.visual, train.audio, texts.visual, texts.audio)),
    )
