"""Which clips train, validate and test: chosen by a seed or by the user, and clips assigned to splits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal, Self, get_args

import numpy as np

from model_export.data.feature_file import FeatureSet
from model_export.data.gzsl_data import SPLIT_NAMES, GzslData, SplitFeatures, SplitName, join
from model_export.errors import DatasetError, Problem
from service.arrays import Array

Part = Literal["train", "val", "test"]
PARTS: Final[tuple[Part, ...]] = get_args(Part)
MIN_CLIPS: Final = 3
"""Clips of a class, so that it can be trained on, validated and tested."""
MIN_CLASSES: Final = 6
"""Two to train on, two that are unseen in validation, two that are unseen in the test."""
_MIN_UNSEEN: Final = 2  # with one unseen class every ZSL prediction would be right


def large_enough(labels: Sequence[str]) -> list[str]:
    """Sorted names of the classes with at least MIN_CLIPS clips; `labels` has one entry per clip."""
    return sorted(name for name, n in Counter(labels).items() if n >= MIN_CLIPS)


def choosing_problems(labels: Sequence[str], unseen: Sequence[str] = ()) -> list[Problem]:
    """Why splits can't be chosen; the arguments are those of `choose_splits`."""
    classes = large_enough(labels)
    unknown = [name for name in unseen if name not in classes]
    if unknown:
        few = f"no class of these clips, or with fewer than {MIN_CLIPS} of them"
        return [Problem("unseen", f"{name!r} is {few}") for name in unknown]
    needed = MIN_CLASSES - _MIN_UNSEEN if unseen else MIN_CLASSES
    left = len(classes) - len(set(unseen))
    if left < needed:
        beside = " beside the unseen ones" if unseen else ""
        what = (
            f"{left} classes have {MIN_CLIPS} clips or more{beside}; at least {needed} are needed, so that "
            "some can be trained on and others be unseen in validation and test"
        )
        return [Problem("classes", what)]
    return []


def choose_splits(labels: Sequence[str], seed: int, unseen: Sequence[str] = ()) -> list[SplitName | None]:
    """Choose a split for each clip, by classes first and then within each class.

    A fifth of the classes, at least two, is unseen in the test, and about as many in validation; the others
    are trained on. One clip in ten of a class that is trained on is for validation and one for the test. One
    clip in ten of a class that is unseen in validation is for the test: the final head trains on the rest.

    Args:
        labels: Class of each clip, for which `choosing_problems` finds nothing.
        seed: The same labels and seed give the same splits.
        unseen: Classes that shall be unseen in the test, instead of a random fifth.

    Returns:
        One split a clip; None for clips of classes that are too small.
    """
    random = np.random.default_rng(seed)
    names = large_enough(labels)
    rest = [str(name) for name in random.permutation([name for name in names if name not in set(unseen)])]
    n_test = 0 if unseen else _share(len(names), 5)
    n_val = _share(len(rest) - n_test, 4)
    val, unseen_in_test = set(rest[n_test : n_test + n_val]), {*unseen, *rest[:n_test]}
    chosen: list[SplitName | None] = [None] * len(labels)
    for name in names:
        clips = random.permutation([row for row, label in enumerate(labels) if label == name])
        for place, row in enumerate(clips.tolist()):
            chosen[row] = _split_of(place, len(clips), is_val=name in val, is_unseen=name in unseen_in_test)
    return chosen


def infer_splits(labels: Sequence[str], given: Sequence[Part | SplitName]) -> list[SplitName]:
    """Turn what the user gave for each clip into splits.

    One of the five splits is taken as it is. Whether `val` and `test` mean a seen or an unseen class follows
    from the other clips: a class is unseen in validation without clips in `train`, and unseen in the test
    without clips in `train` or validation.
    """
    having: Mapping[str, set[str]] = {
        part: {label for label, word in zip(labels, given, strict=True) if word.startswith(part)}
        for part in PARTS
    }
    seen: Mapping[str, set[str]] = {"val": having["train"], "test": having["train"] | having["val"]}
    return [
        word if word in SPLIT_NAMES else f"{word}_{'seen' if label in seen[word] else 'unseen'}"  # type: ignore[misc]
        for label, word in zip(labels, given, strict=True)
    ]


def missing_splits(splits: Sequence[SplitName | None]) -> list[Problem]:
    """A problem for each split that no clip is in."""
    what = "no clip is in it; training needs clips in all five splits"
    return [Problem(split, what) for split in SPLIT_NAMES if split not in splits]


def _share(n: int, parts: int) -> int:
    """Number of unseen classes among n, one in `parts`."""
    return max(_MIN_UNSEEN, round(n / parts))


def _split_of(place: int, n: int, *, is_val: bool, is_unseen: bool) -> SplitName:
    """Split of the clip at a position among the n shuffled clips of its class."""
    tenth = max(1, round(n / 10))
    if is_unseen:
        return "test_unseen"
    if place < tenth:
        return "test_seen"
    if is_val:
        return "val_unseen"
    return "val_seen" if place < 2 * tenth else "train"


@dataclass(frozen=True)
class ClassTexts:
    """Text features of the classes.

    Attributes:
        names: Unique.
        visual: float32 [n_classes, n_visual].
        audio: float32 [n_classes, n_audio].
    """

    names: tuple[str, ...]
    visual: Array
    audio: Array

    def of(self, names: Sequence[str]) -> Self:
        """The text features of some of the classes."""
        rows = [self.names.index(name) for name in names]
        return type(self)(tuple(names), self.visual[rows], self.audio[rows])


@dataclass(frozen=True)
class ClipPool:
    """Clips without splits, one row each.

    Attributes:
        visual: float32 [n, n_visual]; zeros: no visual track.
        audio: float32 [n, n_audio]; zeros: no audio track.
        labels: Name of each clip's class.
        names: Of the clips.
    """

    visual: Array
    audio: Array
    labels: tuple[str, ...]
    names: tuple[str, ...]

    @classmethod
    def of(cls, features: FeatureSet) -> Self:
        """The clips of all splits, sorted by name: their order does not depend on their former splits."""
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

    def assign(
        self,
        splits: Sequence[SplitName | None],
        texts: ClassTexts,
        *,
        name: str,
        encoders: str,
    ) -> FeatureSet:
        """A data set of the clips that are given a split.

        Args:
            splits: One for each clip; None leaves it out.
            texts: Of at least the classes of the clips that are in.
            name: Of the data set, for reports.
            encoders: Which encoders made the features.
        """
        texts = texts.of(sorted({one for one, split in zip(self.labels, splits, strict=True) if split}))
        rows = {split: [i for i, one in enumerate(splits) if one == split] for split in SPLIT_NAMES}
        data = GzslData(
            name=name,
            simulated=False,
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
    """The same clips in newly chosen splits; see `choose_splits`.

    Args:
        source: The features' file, for the error.
        features: In any splits.
        seed: Of the choice.
        unseen: Classes that shall be unseen in the test.

    Raises:
        DatasetError: The clips can't be split so.
    """
    pool, data = ClipPool.of(features), features.data
    if problems := choosing_problems(pool.labels, unseen):
        raise DatasetError(source, problems)
    texts = ClassTexts(data.class_names, data.text_visual, data.text_audio)
    splits = choose_splits(pool.labels, seed, unseen)
    found = pool.assign(splits, texts, name=data.name, encoders=data.encoders)
    dealt = replace(
        data,
        class_names=found.data.class_names,
        text_visual=found.data.text_visual,
        text_audio=found.data.text_audio,
        splits=found.data.splits,
    )
    return replace(found, data=dealt)
