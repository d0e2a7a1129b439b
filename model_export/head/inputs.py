"""What every training step of a stage draws from, made once: nothing in it changes while the head trains."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from model_export.data.features import Indices
from model_export.head.batches import StageTensors, balanced_batches, drop_tracks, fill_missing
from model_export.head.config import HeadConfig
from model_export.head.network import HeadNetwork
from model_export.head.objective import Batch
from model_export.head.statistics import fill_features
from model_export.head.teacher import Teacher


@dataclass(frozen=True)
class StageInputs:
    """The training clips and classes of one stage, ready for batches.

    Attributes:
        visual: float32 [n, n_visual], the fill-in feature where a clip has no picture.
        audio: float32 [n, n_audio], likewise.
        class_index: int64 [n], class of each clip.
        fills: the visual and the audio fill-in feature.
        text_input: float32 [c, n_text], of the training classes, as the network takes it.
        teacher: what the raw features know of this stage.
    """

    visual: Tensor
    audio: Tensor
    class_index: Indices
    fills: tuple[Tensor, Tensor]
    text_input: Tensor
    teacher: Teacher

    @classmethod
    def of(cls, stage: StageTensors, network: HeadNetwork) -> Self:
        """Prepare a stage for a network; of the network only its choice of features matters."""
        fills, texts = fill_features(stage), stage.texts.of_classes(stage.seen)
        return cls(
            visual=fill_missing(stage.train.visual, fills[0]),
            audio=fill_missing(stage.train.audio, fills[1]),
            class_index=stage.train.class_index.cpu().numpy(),
            fills=fills,
            text_input=network.text_input(texts.visual, texts.audio),
            teacher=Teacher.of(stage),
        )

    def batches(self, config: HeadConfig, seed: int) -> Iterator[Batch]:
        """The class-balanced batches of one epoch; torch's generator decides which tracks are dropped."""
        drawn = balanced_batches(self.class_index, seed, config.n_batches_per_epoch, config.batch_size)
        for rows, target in drawn:
            v, a = self.visual[rows], self.audio[rows]
            raw_targets = self.teacher.targets(v, a) if config.distil_weight else None
            if config.modality_dropout:
                chance = torch.rand(len(rows)).to(v.device)
                v, a = drop_tracks(v, a, self.fills, chance, config.modality_dropout)
            yield Batch(v, a, target.to(v.device), self.text_input, self.teacher.text_cosines, raw_targets)
