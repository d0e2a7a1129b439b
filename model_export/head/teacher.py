"""What the raw CLIP and CLAP features already know, as a teacher of the head.

The encoders saw millions of clips; the head sees a hundred classes. Two of its loss terms keep it close to
what the raw features say: which classes are alike (text geometry), and which classes a clip is like
(distillation, after HSP-MoE).
"""

from dataclasses import dataclass
from typing import Final, Self

import torch.nn.functional as F
from torch import Tensor

from model_export.head.batches import StageTensors, mean_direction
from model_export.head.distances import raw_cosines

TARGET_TEMPERATURE: Final = 0.05  # of the mean cosine, when it becomes a distribution over classes


@dataclass(frozen=True)
class Teacher:
    """Raw features of the training classes, and where clips and texts have their centres.

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
        """The teacher of one stage; it knows the stage's training classes and clips only."""
        texts = stage.texts.of_classes(stage.seen)
        visual, audio = (_own_cosines(text) for text in (texts.visual, texts.audio))
        return cls(
            text_visual=texts.visual,
            text_audio=texts.audio,
            visual_mean=mean_direction(stage.train.visual),
            audio_mean=mean_direction(stage.train.audio),
            text_cosines=(visual + audio) / 2,
        )

    def targets(self, visual: Tensor, audio: Tensor) -> Tensor:
        """Distribution [n, c] over the training classes by raw similarity of clips [n, dv] and [n, da]."""
        text_means = (mean_direction(self.text_visual), mean_direction(self.text_audio))
        visual_cosines = raw_cosines(visual, self.text_visual, self.visual_mean, text_means[0])
        audio_cosines = raw_cosines(audio, self.text_audio, self.audio_mean, text_means[1])
        return F.softmax((visual_cosines + audio_cosines) / 2 / TARGET_TEMPERATURE, dim=1)


def _own_cosines(texts: Tensor) -> Tensor:
    mean = mean_direction(texts)
    return raw_cosines(texts, texts, mean, mean)
