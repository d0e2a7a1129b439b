"""The features of a stage as tensors on a device, and what is computed from them alone."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor

from model_export.data.gzsl_data import GzslData, SplitFeatures, Stage, Track


@dataclass(frozen=True)
class Clips:
    """Clips of one split as tensors.

    Attributes:
        visual: float32 [n, n_visual]; a row of zeros where the clip has no visual track.
        audio: float32 [n, n_audio]; a row of zeros where the clip has no audio track.
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
        """The same clips with one track alone, the other zero; unchanged for `both`."""
        visual = torch.zeros_like(self.visual) if track == "audio" else self.visual
        audio = torch.zeros_like(self.audio) if track == "visual" else self.audio
        return Clips(visual, audio, self.class_index)

    def have(self, track: Track) -> Tensor:
        """Which have the track, or both tracks: bool [n]."""
        visual, audio = self.visual.any(dim=1), self.audio.any(dim=1)
        return {"visual": visual, "audio": audio, "both": visual & audio}[track]

    def having(self, track: Track) -> "Clips":
        """Those that have the track, with this one alone, or both; all of them where none has."""
        has = self.have(track)
        rows = has if has.any() else ~has
        return Clips(self.visual[rows], self.audio[rows], self.class_index[rows]).only(track)


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
        train: Clips of the seen classes.
        eval_seen: Other clips of the seen classes.
        eval_unseen: Clips of the unseen classes.
        texts: Text features of every class.
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

    @cached_property
    def directions(self) -> tuple[Tensor, Tensor]:
        """Mean directions of the training clips' visual and audio features."""
        return mean_direction(self.train.visual), mean_direction(self.train.audio)

    @cached_property
    def fills(self) -> tuple[Tensor, Tensor]:
        """`directions` at unit length; they stand in for a missing track. Zeros for one that no clip has."""
        visual, audio = (F.normalize(direction, dim=0) for direction in self.directions)
        return visual, audio

    @cached_property
    def filled_train(self) -> Clips:
        """The training clips, with `fills` in place of missing tracks."""
        if self.train.have("both").all():
            return self.train
        visual, audio = self.fills
        return replace(
            self.train,
            visual=fill_missing(self.train.visual, visual),
            audio=fill_missing(self.train.audio, audio),
        )

    def measures(self, track: Track) -> bool:
        """Whether some clips of seen and some of unseen classes that measure it have the track, or both."""
        return all(bool(clips.have(track).any()) for clips in (self.eval_seen, self.eval_unseen))

    def only(self, track: Track) -> "StageTensors":
        """The same stage, but it is measured on clips that have the track, with this one alone.

        Unchanged for `both`.
        """
        return self if track == "both" else self._having(track)

    def complete(self) -> "StageTensors":
        """The same stage, but it is measured on clips that have both tracks; unchanged if it can't be."""
        return self._having("both") if self.measures("both") else self

    def _having(self, track: Track) -> "StageTensors":
        return replace(
            self, eval_seen=self.eval_seen.having(track), eval_unseen=self.eval_unseen.having(track)
        )


def mean_direction(features: Tensor) -> Tensor:
    """Mean of the L2-normalised rows that are not zero: [n, d] -> [d]; zeros if all are."""
    present = features[features.any(dim=1)]
    return F.normalize(present, dim=1).mean(dim=0) if len(present) else torch.zeros_like(features[0])


def fill_missing(features: Tensor, fill: Tensor) -> Tensor:
    """Put the fill-in feature [d] where a row of features [n, d] is all zero.

    A fill-in of zeros means that no training clip had the track: what the network would make of it is
    chance, so it gets zeros for every clip.
    """
    return torch.where(features.any(dim=1, keepdim=True) & fill.any(), features, fill)
