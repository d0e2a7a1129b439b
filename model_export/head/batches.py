"""Hold a stage's features as tensors and draw class-balanced batches from them."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from model_export.data.features import GzslData, Indices, SplitFeatures, Stage, Track


@dataclass(frozen=True)
class Clips:
    """Clips of one split as tensors.

    Attributes:
        visual: float32 [n, n_visual]; a row of zeros where the clip has no picture.
        audio: float32 [n, n_audio]; a row of zeros where the clip has no sound.
        class_index: int64 [n].
    """

    visual: Tensor
    audio: Tensor
    class_index: Tensor

    @classmethod
    def of(cls, split: SplitFeatures, device: torch.device) -> Self:
        """The same clips on a device; on the CPU the memory is shared."""
        arrays = (split.visual, split.audio, split.class_index)
        return cls(*(torch.from_numpy(array).to(device) for array in arrays))

    def only(self, track: Track) -> "Clips":
        """The same clips with one track taken away, or as they are for `both`."""
        visual = torch.zeros_like(self.visual) if track == "audio" else self.visual
        audio = torch.zeros_like(self.audio) if track == "visual" else self.audio
        return Clips(visual, audio, self.class_index)


@dataclass(frozen=True)
class Texts:
    """Text features of all classes of a data set.

    Attributes:
        visual: float32 [n_classes, n_visual].
        audio: float32 [n_classes, n_audio].
    """

    visual: Tensor
    audio: Tensor

    @classmethod
    def of(cls, data: GzslData, device: torch.device) -> Self:
        """Text features as tensors on a device."""
        return cls(*(torch.from_numpy(array).to(device) for array in (data.text_visual, data.text_audio)))

    def of_classes(self, classes: Tensor) -> "Texts":
        """The rows of some classes."""
        return Texts(self.visual[classes], self.audio[classes])


@dataclass(frozen=True)
class StageTensors:
    """A stage as tensors.

    Attributes:
        train: clips of the seen classes.
        eval_seen: other clips of the seen classes.
        eval_unseen: clips of the unseen classes.
        texts: text features of every class.
        seen: int64, sorted ids of the classes trained on.
        unseen: int64, sorted ids of the classes known by name only.
    """

    train: Clips
    eval_seen: Clips
    eval_unseen: Clips
    texts: Texts
    seen: Tensor
    unseen: Tensor

    @classmethod
    def of(cls, data: GzslData, stage: Stage, device: torch.device) -> Self:
        """Move a stage of a data set to a device."""
        return cls(
            train=Clips.of(stage.train, device),
            eval_seen=Clips.of(stage.eval_seen, device),
            eval_unseen=Clips.of(stage.eval_unseen, device),
            texts=Texts.of(data, device),
            seen=torch.from_numpy(stage.seen).to(device),
            unseen=torch.from_numpy(stage.unseen).to(device),
        )

    def only(self, track: Track) -> "StageTensors":
        """The same stage, the clips that it is measured on having only one track."""
        return replace(self, eval_seen=self.eval_seen.only(track), eval_unseen=self.eval_unseen.only(track))


def mean_direction(features: Tensor) -> Tensor:
    """Mean of the L2-normalised rows that are not zero: [n, d] -> [d]."""
    return F.normalize(features[features.any(dim=1)], dim=1).mean(dim=0)


def fill_missing(features: Tensor, fill: Tensor) -> Tensor:
    """Put the fill-in feature [d] where a row of features [n, d] is all zero."""
    return torch.where(features.any(dim=1, keepdim=True), features, fill)


def drop_tracks(
    visual: Tensor, audio: Tensor, fills: tuple[Tensor, Tensor], chance: Tensor, rate: float
) -> tuple[Tensor, Tensor]:
    """Replace one track of some clips by its fill-in feature.

    Args:
        visual: [n, n_visual].
        audio: [n, n_audio].
        fills: the visual and the audio fill-in feature.
        chance: [n], uniform in 0..1, decides for each clip.
        rate: share of clips that lose a track, half of them the picture.
    """
    no_visual, no_audio = chance < rate / 2, chance > 1 - rate / 2
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
        seed: the same seed draws the same epoch.
        n_batches: batches in the epoch.
        batch_size: clips in a batch.

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
