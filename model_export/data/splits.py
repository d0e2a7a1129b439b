"""Which clips train, validate and test: chosen by a seed, or as somebody said."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final, Literal, get_args

import numpy as np

from model_export.data.features import SPLIT_NAMES, SplitName
from model_export.errors import Problem

Part = Literal["train", "val", "test"]
PARTS: Final[tuple[Part, ...]] = get_args(Part)
MIN_CLIPS: Final = 3
"""Of a class, so that it can be trained on, validated and tested."""
MIN_CLASSES: Final = 6
"""Two to train on, two that are new in validation, two that are new in the test."""
_MIN_UNSEEN: Final = 2  # among one unseen name every clip would be right


def large_enough(labels: Sequence[str]) -> list[str]:
    """Sorted names of the classes with at least MIN_CLIPS clips; `labels` has one entry per clip."""
    return sorted(name for name, n in Counter(labels).items() if n >= MIN_CLIPS)


def choosing_problems(labels: Sequence[str], unseen: Sequence[str] = ()) -> list[Problem]:
    """What keeps splits from being chosen; the arguments are those of `choose_splits`."""
    classes = large_enough(labels)
    strangers = [name for name in unseen if name not in classes]
    if strangers:
        few = f"no class of these clips, or with fewer than {MIN_CLIPS} of them"
        return [Problem("unseen", f"{name!r} is {few}") for name in strangers]
    needed = MIN_CLASSES - _MIN_UNSEEN if unseen else MIN_CLASSES
    left = len(classes) - len(set(unseen))
    if left < needed:
        beside = " beside the unseen ones" if unseen else ""
        what = (
            f"{left} classes have {MIN_CLIPS} clips or more{beside}; at least {needed} are needed, so that "
            "some can be trained on and others be new in validation and test"
        )
        return [Problem("classes", what)]
    return []


def choose_splits(labels: Sequence[str], seed: int, unseen: Sequence[str] = ()) -> list[SplitName | None]:
    """Choose a split for each clip, by classes first and then within each class.

    A fifth of the classes, at least two, is new in the test, and about as many in validation; the others
    are trained on. Of a class that is trained on, one clip in ten validates and one in ten tests; of a class
    that is new in validation one in ten tests too, because the final head has trained on the others.

    Args:
        labels: class of each clip, for which `choosing_problems` finds nothing.
        seed: the same labels and seed give the same splits.
        unseen: classes that shall be new in the test, instead of a fifth by chance.

    Returns:
        One split a clip; None for clips of classes that are too small.
    """
    random = np.random.default_rng(seed)
    names = large_enough(labels)
    rest = [str(name) for name in random.permutation([name for name in names if name not in set(unseen)])]
    n_test = 0 if unseen else _share(len(names), 5)
    n_val = _share(len(rest) - n_test, 4)
    val, new = set(rest[n_test : n_test + n_val]), {*unseen, *rest[:n_test]}
    chosen: list[SplitName | None] = [None] * len(labels)
    for name in names:
        clips = random.permutation([row for row, label in enumerate(labels) if label == name])
        for place, row in enumerate(clips.tolist()):
            chosen[row] = _split_of(place, len(clips), is_val=name in val, is_new=name in new)
    return chosen


def infer_splits(labels: Sequence[str], said: Sequence[Part | SplitName]) -> list[SplitName]:
    """Turn what somebody said of each clip into splits.

    One of the five splits is taken as it is. `val` and `test` are of a seen or of an unseen class as the
    other clips say: unseen in validation without clips in `train`, unseen in the test without clips in
    `train` or validation.
    """
    having: Mapping[str, set[str]] = {
        part: {label for label, word in zip(labels, said, strict=True) if word.startswith(part)}
        for part in PARTS
    }
    seen: Mapping[str, set[str]] = {"val": having["train"], "test": having["train"] | having["val"]}
    return [
        word if word in SPLIT_NAMES else f"{word}_{'seen' if label in seen[word] else 'unseen'}"  # type: ignore[misc]
        for label, word in zip(labels, said, strict=True)
    ]


def missing_splits(splits: Sequence[SplitName | None]) -> list[Problem]:
    """A problem for each split that no clip is in."""
    what = "no clip is in it; training needs clips in all five splits"
    return [Problem(split, what) for split in SPLIT_NAMES if split not in splits]


def _share(n: int, parts: int) -> int:
    """How many of n classes are unseen, if one in `parts` shall be."""
    return max(_MIN_UNSEEN, round(n / parts))


def _split_of(place: int, n: int, *, is_val: bool, is_new: bool) -> SplitName:
    """Split of the clip at a place among the n shuffled ones of its class."""
    tenth = max(1, round(n / 10))
    if is_new:
        return "test_unseen"
    if place < tenth:
        return "test_seen"
    if is_val:
        return "val_unseen"
    return "val_seen" if place < 2 * tenth else "train"
