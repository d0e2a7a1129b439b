"""What every method of the comparison is: networks that are trained, and embeddings that are compared.

    clips   visual, audio ──> embed_av ────> theta_av   [n, dim] ─┐
                                                                  ├─ distance ─> ranking
    classes text_visual, text_audio ─> embed_text ─> theta_text [c, dim] ─┘

A new method is one file in methods/, a value of `MethodName` and a preset (head_config.py), and a line in
`methods/__init__.py`. All else (training, statistics, evaluation, export, serving) is the same for all.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

if TYPE_CHECKING:
    from model_export.head.head_config import HeadConfig
    from model_export.head.stage_tensors import StageTensors
    from model_export.head.standardisation import Statistics
    from model_export.head.training_batches import Batch


class Block(nn.Sequential):
    """Linear, batch norm, ReLU, dropout: [n, n_in] -> [n, n_out], never negative."""

    def __init__(self, n_in: int, n_out: int, dropout: float, momentum: float = 0.1) -> None:
        norm = nn.BatchNorm1d(n_out, momentum=momentum)
        super().__init__(nn.Linear(n_in, n_out), norm, nn.ReLU(), nn.Dropout(dropout))


class HeadNetwork(nn.Module, ABC):
    """The networks of one method.

    Args:
        config: What is trained and how.
        n_visual: Dimensions of the visual and the visual text features.
        n_audio: Dimensions of the audio and the audio text features.

    Attributes:
        config: As given.
        n_parts: The distance of a clip and a class is the sum of the Euclidean distances of so many equally
            wide parts of their embeddings.
        not_served: Why a run of the method can't become a bundle; empty where it can.
    """

    n_parts: ClassVar[int] = 1
    not_served: ClassVar[str] = ""

    def __init__(self, config: HeadConfig, n_visual: int, n_audio: int) -> None:
        super().__init__()
        self.config = config
        self.n_visual, self.n_audio = n_visual, n_audio

    @abstractmethod
    def embed_av(self, visual: Tensor, audio: Tensor) -> Tensor:
        """Clip features [n, n_visual], [n, n_audio], any length but zero -> theta_av [n, dim]."""

    def embed_text(self, text_visual: Tensor, text_audio: Tensor) -> Tensor:
        """Text features [c, n_visual], [c, n_audio], any length but zero -> theta_text [c, dim]."""
        return self.embed_text_input(self.text_input(text_visual, text_audio))

    def text_input(self, text_visual: Tensor, text_audio: Tensor) -> Tensor:
        """What `embed_text_input` takes, [c, n_text]: both text features at unit length, side by side.

        Training makes it once a stage: the classes are the same in every batch.
        """
        return unit_columns((text_visual, text_audio))

    @abstractmethod
    def embed_text_input(self, text_input: Tensor) -> Tensor:
        """Text input [c, n_text] -> theta_text [c, dim]."""

    @abstractmethod
    def loss_terms(self, batch: Batch) -> dict[str, Tensor]:
        """Every weighted term of the loss of a batch; training minimises their sum."""

    # The rest is for methods that do not rank by distances in the embedding alone.

    def add_classifier(self, n_seen: int) -> None:
        """Make what has an output for each seen class; none by default."""

    def fit(self, stage: StageTensors, statistics: Statistics, first: HeadNetwork | None) -> None:
        """Fit, in evaluation mode, the buffers that no loss trains, before clips are ranked; none by default.

        Args:
            stage: Its training clips may be used, and its evaluation clips where `first` is None: these are
                validation clips in the first stage, and test clips in the second.
            statistics: Of this network and stage; has what stands for a missing track.
            first: In the second stage the network of the first, whose choices on validation are taken over.
        """

    def final_distances(
        self, distances: Tensor, visual: Tensor, audio: Tensor, seen: Tensor, unseen: Tensor
    ) -> Tensor:
        """What clips are ranked by, [n, n_classes]; by default the distances in the embedding.

        Args:
            distances: [n, n_classes] in the embedding.
            visual: [n, n_visual], missing tracks filled in.
            audio: [n, n_audio], likewise.
            seen: int64, sorted ids of the seen classes.
            unseen: int64, sorted ids of the unseen classes.
        """
        del visual, audio, seen, unseen
        return distances


def unit_columns(parts: tuple[Tensor, ...]) -> Tensor:
    """L2-normalise the rows of each part [n, d_i] and concatenate them: [n, sum of d_i]."""
    return torch.cat([F.normalize(part, dim=1) for part in parts], dim=1)


class HeadAv(nn.Module):
    """Clip features -> theta_av, not standardised; the statistics are applied outside the graph."""

    def __init__(self, network: HeadNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, visual: Tensor, audio: Tensor) -> Tensor:
        """[n, n_visual], [n, n_audio], any length but zero -> float32 [n, dim]."""
        return self.network.embed_av(visual, audio)


class HeadText(nn.Module):
    """Text features -> theta_text, not standardised; the statistics are applied outside the graph."""

    def __init__(self, network: HeadNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, text_visual: Tensor, text_audio: Tensor) -> Tensor:
        """[c, n_visual], [c, n_audio], any length but zero -> float32 [c, dim]."""
        return self.network.embed_text(text_visual, text_audio)
