"""All clips of a data set in one pool, from which they are dealt to splits."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np

from model_export.data.feature_file import FeatureSet
from model_export.data.features import SPLIT_NAMES, Floats, GzslData, SplitFeatures, SplitName, join
from model_export.data.splits import choose_splits, choosing_problems
from model_export.errors import DatasetError


@dataclass(frozen=True)
class ClassTexts:
    """What the text encoders say of the classes.

    Attributes:
        names: unique.
        visual: float32 [n_classes, n_visual].
        audio: float32 [n_classes, n_audio].
    """

    names: tuple[str, ...]
    visual: Floats
    audio: Floats

    def of(self, names: Sequence[str]) -> Self:
        """Those of some of the classes."""
        rows = [self.names.index(name) for name in names]
        return type(self)(tuple(names), self.visual[rows], self.audio[rows])


@dataclass(frozen=True)
class ClipPool:
    """Clips without splits, one row each.

    Attributes:
        visual: float32 [n, n_visual]; zeros: no picture.
        audio: float32 [n, n_audio]; zeros: no sound.
        labels: name of each clip's class.
        names: of the clips.
    """

    visual: Floats
    audio: Floats
    labels: tuple[str, ...]
    names: tuple[str, ...]

    @classmethod
    def of(cls, features: FeatureSet) -> Self:
        """The clips of all splits, sorted by name, so that older splits leave no trace in their order."""
        data = features.data
        clips = join(tuple(split for _, split in data.named_splits()))
        names = [name for split in SPLIT_NAMES for name in features.clip_names[split]]
        order = sorted(range(len(names)), key=names.__getitem__)
        return cls(
            clips.visual[order],
            clips.audio[order],
            tuple(data.class_names[clips.class_index[row]] for row in order),
            tuple(names[row] for row in order),
        )

    def deal(
        self,
        splits: Sequence[SplitName | None],
        texts: ClassTexts,
        *,
        name: str,
        encoders: str,
        simulated: bool = False,
    ) -> FeatureSet:
        """A data set of the clips that have a split.

        Args:
            splits: one for each clip; None leaves it out.
            texts: of at least the classes of the clips that are in.
            name: of the data set, for reports.
            encoders: which encoders made the features.
            simulated: whether the clip features were made up.
        """
        texts = texts.of(sorted({one for one, split in zip(self.labels, splits, strict=True) if split}))
        rows = {split: [i for i, one in enumerate(splits) if one == split] for split in SPLIT_NAMES}
        data = GzslData(
            name=name,
            simulated=simulated,
            class_names=texts.names,
            text_visual=texts.visual,
            text_audio=texts.audio,
            splits={split: self._split(rows[split], texts.names) for split in SPLIT_NAMES},
            encoders=encoders,
        )
        return FeatureSet(data, {split: tuple(self.names[i] for i in rows[split]) for split in SPLIT_NAMES})

    def _split(self, rows: list[int], class_names: tuple[str, ...]) -> SplitFeatures:
        index = np.array([class_names.index(self.labels[row]) for row in rows], np.int64)
        return SplitFeatures(self.visual[rows], self.audio[rows], index)


def split_anew(source: Path, features: FeatureSet, seed: int, unseen: Sequence[str]) -> FeatureSet:
    """The same clips in splits that are chosen anew; see `choose_splits`.

    Args:
        source: where the features are from, for the error.
        features: in any splits.
        seed: of the choice.
        unseen: classes that shall be new in the test.

    Raises:
        DatasetError: the clips can't be split so.
    """
    pool, data = ClipPool.of(features), features.data
    if problems := choosing_problems(pool.labels, unseen):
        raise DatasetError(source, problems)
    texts = ClassTexts(data.class_names, data.text_visual, data.text_audio)
    splits = choose_splits(pool.labels, seed, unseen)
    return pool.deal(splits, texts, name=data.name, encoders=data.encoders, simulated=data.simulated)
