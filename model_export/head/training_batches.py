"""The input of each training step: class-balanced batches of clips, and targets from the raw features.

The encoders were trained on millions of clips, the head on a hundred classes. Two terms of the loss keep it
close to the raw features: which classes are similar (text geometry), and which classes a clip is similar to
(distillation, after HSP-MoE). The `Teacher` gives their targets.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from model_export.data.gzsl_data import Indices
from model_export.head.distances import raw_cosines
from model_export.head.head_config import HeadConfig
from model_export.head.network import HeadNetwork
from model_export.head.stage_tensors import StageTensors, mean_direction

TARGET_TEMPERATURE: Final = 0.05  # of the mean cosine, when it becomes a distribution over classes


@dataclass(frozen=True)
class Batch:
    """One training step's input.

    Attributes:
        visual: float32 [n, n_visual].
        audio: float32 [n, n_audio].
        target: int64 [n], row of each clip's class in `text_input`.
        text_input: float32 [c, n_text], of all training classes, from `HeadNetwork.text_input`.
        text_cosines: float32 [c, c], raw similarity of the training classes' texts.
        raw_targets: float32 [n, c], distribution over the training classes by raw similarity, if distilled.
    """

    visual: Tensor
    audio: Tensor
    target: Tensor
    text_input: Tensor
    text_cosines: Tensor
    raw_targets: Tensor | None


@dataclass(frozen=True)
class StageInputs:
    """The training clips and classes of one stage, ready for batches.

    Attributes:
        visual: float32 [n, n_visual], the fill-in feature where a clip has no visual track.
        audio: float32 [n, n_audio], likewise.
        has_visual: bool [n], whether a clip has a visual track.
        has_audio: bool [n], likewise.
        class_index: int64 [n], class of each clip.
        fills: The visual and the audio fill-in feature.
        text_input: float32 [c, n_text], of the training classes, as the network takes it.
        teacher: Targets from the raw features of this stage.
    """

    visual: Tensor
    audio: Tensor
    has_visual: Tensor
    has_audio: Tensor
    class_index: Indices
    fills: tuple[Tensor, Tensor]
    text_input: Tensor
    teacher: Teacher

    @classmethod
    def of(cls, stage: StageTensors, network: HeadNetwork) -> Self:
        """Prepare a stage for a network, which decides which text features are used."""
        filled, texts = stage.filled_train, stage.texts.of_classes(stage.seen)
        return cls(
            visual=filled.visual,
            audio=filled.audio,
            has_visual=stage.train.visual.any(dim=1),
            has_audio=stage.train.audio.any(dim=1),
            class_index=stage.train.class_index.cpu().numpy(),
            fills=stage.fills,
            text_input=network.text_input(texts.visual, texts.audio),
            teacher=Teacher.of(stage),
        )

    def batches(self, config: HeadConfig, seed: int) -> Iterator[Batch]:
        """The class-balanced batches of one epoch; torch's generator decides which tracks are dropped."""
        drawn = balanced_batches(self.class_index, seed, config.n_batches_per_epoch, config.batch_size)
        for rows, target in drawn:
            v, a = self.visual[rows], self.audio[rows]
            has = (self.has_visual[rows], self.has_audio[rows])
            raw_targets = self.teacher.targets(v, a, has) if config.distil_weight else None
            if config.modality_dropout:
                chance = torch.rand(len(rows)).to(v.device)
                v, a = drop_tracks(v, a, has, self.fills, chance, config.modality_dropout)
            yield Batch(v, a, target.to(v.device), self.text_input, self.teacher.text_cosines, raw_targets)


def drop_tracks(
    visual: Tensor,
    audio: Tensor,
    has: tuple[Tensor, Tensor],
    fills: tuple[Tensor, Tensor],
    chance: Tensor,
    rate: float,
) -> tuple[Tensor, Tensor]:
    """Replace one track of some clips by its fill-in feature; a clip's only track stays.

    Args:
        visual: [n, n_visual].
        audio: [n, n_audio].
        has: bool [n] each, whether a clip has the visual and the audio track.
        fills: The visual and the audio fill-in feature.
        chance: [n], uniform in 0..1, decides for each clip.
        rate: Share of clips that lose a track, half of them the visual one.
    """
    no_visual, no_audio = (chance < rate / 2) & has[1], (chance > 1 - rate / 2) & has[0]
    return (
        torch.where(no_visual.unsqueeze(1), fills[0], visual),
        torch.where(no_audio.unsqueeze(1), fills[1], audio),
    )


def balanced_batches(
    class_index: Indices, seed: int, n_batches: int, batch_size: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Draw an epoch: each clip's class is uniform over classes, then the clip within it; with replacement.

    Args:
        class_index: int64 [n], class of each clip.
        seed: The same seed draws the same epoch.
        n_batches: Batches in the epoch.
        batch_size: Clips in a batch.

    Yields:
        int64 [batch_size] rows of clips and int64 [batch_size] positions of their classes among the sorted
        class ids.
    """
    classes, position = np.unique(class_index, return_inverse=True)
    by_class = np.argsort(position, kind="stable")
    count = np.bincount(position)
    start = np.cumsum(count) - count
    random = np.random.default_rng(seed)
    target = random.integers(len(classes), size=(n_batches, batch_size))
    rows = by_class[start[target] + random.integers(count[target])]
    return zip(torch.from_numpy(rows), torch.from_numpy(target), strict=True)


@dataclass(frozen=True)
class Teacher:
    """Raw text features of the training classes, and the centres of clips and texts.

    Attributes:
        text_visual: [c, n_visual], of the training classes.
        text_audio: [c, n_audio], likewise.
        visual_mean: [n_visual], centre of the training clips' visual features.
        audio_mean: [n_audio], likewise.
        text_cosines: [c, c], mean of both encoders' cosines between class texts about their centre.
    """

    text_visual: Tensor
    text_audio: Tensor
    visual_mean: Tensor
    audio_mean: Tensor
    text_cosines: Tensor

    @classmethod
    def of(cls, stage: StageTensors) -> Self:
        """The teacher of one stage, from its training classes and clips only."""
        texts = stage.texts.of_classes(stage.seen)
        visual, audio = (_own_cosines(text) for text in (texts.visual, texts.audio))
        return cls(
            text_visual=texts.visual,
            text_audio=texts.audio,
            visual_mean=stage.directions[0],
            audio_mean=stage.directions[1],
            text_cosines=(visual + audio) / 2,
        )

    def targets(self, visual: Tensor, audio: Tensor, has: tuple[Tensor, Tensor]) -> Tensor:
        """Distribution [n, c] over the training classes by the mean raw similarity of the tracks of clips.

        Args:
            visual: [n, n_visual].
            audio: [n, n_audio].
            has: bool [n] each, whether a clip has the visual and the audio track.
        """
        text_means = (mean_direction(self.text_visual), mean_direction(self.text_audio))
        visual_cosines = raw_cosines(visual, self.text_visual, self.visual_mean, text_means[0])
        audio_cosines = raw_cosines(audio, self.text_audio, self.audio_mean, text_means[1])
        visual_weight, audio_weight = (one.unsqueeze(1).to(visual.dtype) for one in has)
        total = visual_weight * visual_cosines + audio_weight * audio_cosines
        return F.softmax(total / (visual_weight + audio_weight) / TARGET_TEMPERATURE, dim=1)


def _own_cosines(texts: Tensor) -> Tensor:
    mean = mean_direction(texts)
    return raw_cosines(texts, texts, mean, mean)
