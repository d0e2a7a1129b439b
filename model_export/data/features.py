"""A data set as training and evaluation take it, wherever it comes from."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Indices = NDArray[np.int64]
Track = Literal["both", "visual", "audio"]
SplitName = Literal["train", "val_seen", "val_unseen", "test_seen", "test_unseen"]
SPLIT_NAMES: Final[tuple[SplitName, ...]] = ("train", "val_seen", "val_unseen", "test_seen", "test_unseen")


@dataclass(frozen=True)
class SplitFeatures:
    """The clips of one split, one row each.

    Attributes:
        visual: float32 [n, n_visual], any length; a row of zeros says that the clip has no picture.
        audio: float32 [n, n_audio], likewise for sound.
        class_index: int64 [n], row of the clip's class in `GzslData.class_names`.
    """

    visual: Floats
    audio: Floats
    class_index: Indices

    def __len__(self) -> int:
        return len(self.class_index)

    def classes(self) -> Indices:
        """Sorted ids of the classes that have clips here."""
        return np.unique(self.class_index)


@dataclass(frozen=True)
class Stage:
    """One of the two stages: what is trained on, and what is ranked to measure it.

    Attributes:
        train: clips of the seen classes.
        eval_seen: other clips of the seen classes.
        eval_unseen: clips of the unseen classes.
        seen: int64, sorted ids of the classes trained on.
        unseen: int64, sorted ids of the classes known by name only.
    """

    train: SplitFeatures
    eval_seen: SplitFeatures
    eval_unseen: SplitFeatures
    seen: Indices
    unseen: Indices


@dataclass(frozen=True)
class GzslData:
    """Clip features, class text features and splits of one data set.

    Attributes:
        name: for reports.
        simulated: whether the clip features were made up; every table then says so.
        class_names: one per class, unique.
        text_visual: float32 [n_classes, n_visual], from the text tower beside the visual encoder.
        text_audio: float32 [n_classes, n_audio], from the text tower beside the audio encoder.
        splits: the five splits. Classes of `val_seen` are those of `train`; classes of `test_seen` are
            those of `train` and `val_unseen`.
        encoders: which encoders made the features, e.g. the digest of a bundle; empty where nobody said.
    """

    name: str
    simulated: bool
    class_names: tuple[str, ...]
    text_visual: Floats
    text_audio: Floats
    splits: Mapping[SplitName, SplitFeatures]
    encoders: str = ""

    @property
    def n_visual(self) -> int:
        """Dimensions of the visual features."""
        return int(self.text_visual.shape[1])

    @property
    def n_audio(self) -> int:
        """Dimensions of the audio features."""
        return int(self.text_audio.shape[1])

    def stage(self, number: Literal[1, 2]) -> Stage:
        """Stage 1 trains on `train` and measures on validation; stage 2 trains on both, measures on test."""
        s = self.splits
        if number == 1:
            seen, unseen = s["train"].classes(), s["val_unseen"].classes()
            return Stage(s["train"], s["val_seen"], s["val_unseen"], seen, unseen)
        train = join((s["train"], s["val_seen"], s["val_unseen"]))
        return Stage(train, s["test_seen"], s["test_unseen"], train.classes(), s["test_unseen"].classes())

    def fingerprint(self) -> str:
        """SHA-256 of names, features and splits: tells whether a run was made from this very data."""
        digest = hashlib.sha256("\0".join(self.class_names).encode())
        for array in (self.text_visual, self.text_audio):
            digest.update(np.ascontiguousarray(array).data)
        for _, split in self.named_splits():
            for values in (split.visual, split.audio, split.class_index):
                digest.update(np.ascontiguousarray(values).data)
        return digest.hexdigest()

    def named_splits(self) -> Iterator[tuple[SplitName, SplitFeatures]]:
        """The splits in their usual order."""
        return ((name, self.splits[name]) for name in SPLIT_NAMES)


def join(parts: tuple[SplitFeatures, ...]) -> SplitFeatures:
    """Put splits one below the other."""
    return SplitFeatures(
        visual=np.concatenate([part.visual for part in parts]),
        audio=np.concatenate([part.audio for part in parts]),
        class_index=np.concatenate([part.class_index for part in parts]),
    )
