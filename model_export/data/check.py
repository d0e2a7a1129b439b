"""Look over a data set: what is there, how it compares with the published counts, and all that is wrong."""

from pathlib import Path
from typing import Final

import numpy as np
from pydantic import BaseModel, ConfigDict

from model_export.data.features import SPLIT_NAMES, GzslData, SplitName
from model_export.data.pickles import read_npy_dict, read_pickle
from model_export.data.published import (
    FOLDERS,
    Published,
    identify,
    read_classes,
    read_clips,
    read_split_classes,
    split_problems,
)
from model_export.data.published_text import FEATURES, mixed_up, read_class_text, read_text_names
from model_export.errors import DatasetError, Problem

# Classes and clips of train, val_seen, val_unseen, test_seen, test_unseen (CLIP-CLAP's public data).
PUBLISHED_COUNTS: Final[dict[str, tuple[tuple[int, int], ...]]] = {
    "UCF-GZSL": ((30, 3174), (30, 353), (12, 1467), (42, 555), (6, 845)),
    "ActivityNet-GZSL": ((99, 9204), (99, 1023), (51, 4307), (150, 1615), (48, 4052)),
    "VGGSound-GZSL": ((138, 70351), (138, 7817), (69, 3102), (207, 9032), (64, 3200)),
}


class SplitCount(BaseModel):
    """Classes and clips of one split; None where there is nothing to compare with."""

    model_config = ConfigDict(frozen=True)

    split: SplitName
    n_classes: int
    n_clips: int
    published_classes: int | None = None
    published_clips: int | None = None

    @property
    def as_published(self) -> bool:
        """Whether both counts are the published ones."""
        return (self.n_classes, self.n_clips) == (self.published_classes, self.published_clips)


class DatasetCheck(BaseModel):
    """What was found.

    Attributes:
        name: of the data set.
        simulated: whether all clip features say that they were made up; None where there are none.
        splits: counted against the published table.
        mixed_up: classes that the reference loader trains on another class's text; None where there are
            no text vectors to tell by.
        problems: everything that keeps the data set from being used.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    simulated: bool | None
    splits: tuple[SplitCount, ...]
    mixed_up: tuple[str, ...] | None
    problems: tuple[str, ...]


def check_features(data: GzslData) -> DatasetCheck:
    """Count a data set that could be read whole."""
    counts = {split: (len(clips.classes()), len(clips)) for split, clips in data.named_splits()}
    return DatasetCheck(
        name=data.name,
        simulated=data.simulated,
        splits=_compare(data.name, counts),
        mixed_up=None,
        problems=(),
    )


def check_published(root: Path) -> DatasetCheck:
    """Look over a folder in the published layout, as far as it goes.

    Raises:
        DatasetError: it is none of the three data sets.
    """
    published, problems = identify(root), list[Problem]()
    classes = read_classes(root, problems)
    members = {split: read_split_classes(root, split, classes, problems) for split in SPLIT_NAMES}
    problems += split_problems(members)
    text = read_class_text(root, published.key, published.names_csv, classes, problems, legacy_order=False)
    sizes = (text[0].shape[1], text[1].shape[1]) if text else (_size(root, "video"), _size(root, "audio"))
    ids = {name: i for i, name in enumerate(classes)}
    counts, made_up = {}, []
    for split, names in members.items():
        clips = _clips(root, FOLDERS[split], names, ids, sizes, problems)
        counts[split] = (len(names), len(clips[0]))
        made_up += [clips[1]] if len(clips[0]) else []
    return DatasetCheck(
        name=published.name,
        simulated=all(made_up) if made_up else None,
        splits=_compare(published.name, counts),
        mixed_up=_mixed_up(root, published, classes),
        problems=tuple(str(problem) for problem in problems),
    )


def _size(root: Path, track: str) -> int:
    """Dimensions of the first clip, to tell odd ones by where there is no text; 0 without clips."""
    for path in sorted((root / FEATURES / track / FOLDERS["train"]).glob("*.pkl")):
        try:
            return len(read_pickle(path, path.name)["features"][0])
        except (DatasetError, LookupError, TypeError):
            continue  # it will be named as a problem
    return 0


def _clips(
    root: Path,
    folder: str,
    names: tuple[str, ...],
    ids: dict[str, int],
    sizes: tuple[int, int],
    problems: list[Problem],
) -> tuple[np.ndarray[tuple[int], np.dtype[np.int64]], bool]:
    """Class of each clip of a split, and whether all are made up; a missing folder is one problem."""
    missing = [t for t in ("video", "audio") if not (root / FEATURES / t / folder).is_dir()]
    if missing:
        problems += [Problem(f"{FEATURES}/{track}/{folder}", "no such folder") for track in missing]
        return np.empty(0, np.int64), False
    clips, made_up = read_clips(root, folder, names, ids, sizes, problems)
    return clips.class_index, made_up


def _compare(name: str, counts: dict[SplitName, tuple[int, int]]) -> tuple[SplitCount, ...]:
    published = PUBLISHED_COUNTS.get(name, ((None, None),) * len(SPLIT_NAMES))
    return tuple(
        SplitCount(
            split=split,
            n_classes=counts[split][0],
            n_clips=counts[split][1],
            published_classes=expected[0],
            published_clips=expected[1],
        )
        for split, expected in zip(SPLIT_NAMES, published, strict=True)
    )


def _mixed_up(root: Path, published: Published, classes: tuple[str, ...]) -> tuple[str, ...] | None:
    shown = f"{FEATURES}/text/word_embeddings_{published.key}_normed.npy"
    try:
        table = read_npy_dict(root / shown, shown)
    except DatasetError:
        return None  # already among the problems
    return tuple(mixed_up(table, read_text_names(root, published.names_csv, []), classes))
