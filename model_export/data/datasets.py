"""Open a data set of either form, or count its clips and list all that is wrong with it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict

from model_export.data.feature_file import SUFFIX, FeatureSet, read_feature_file
from model_export.data.gzsl_data import SPLIT_NAMES, GzslData, SplitName
from model_export.data.pickles import read_npy_dict, read_pickle
from model_export.data.published_layout import (
    FOLDERS,
    PUBLISHED_COUNTS,
    Published,
    identify,
    read_classes,
    read_clips,
    read_published,
    read_split_classes,
    split_problems,
)
from model_export.data.published_text import FEATURES, mixed_up, read_class_text, read_text_names
from model_export.errors import DatasetError, Problem


def open_dataset(path: Path, *, legacy_text_order: bool = False) -> GzslData:
    """Read a folder in the published layout, or a feature file.

    Args:
        path: Of the data set.
        legacy_text_order: Published layout only: mix up the texts as the reference loader does.

    Raises:
        DatasetError: With everything that is wrong with it.
    """
    if path.is_dir():
        return read_published(path, legacy_text_order=legacy_text_order)
    if legacy_text_order:
        raise DatasetError(path, [Problem(str(path), "only the published layout has a legacy text order")])
    return open_features(path).data


def open_features(path: Path) -> FeatureSet:
    """Read a feature file, with the names of its clips.

    Raises:
        DatasetError: With everything that is wrong with it.
    """
    if not path.exists():
        raise DatasetError(path, [Problem(str(path), "no such file or folder")])
    if path.suffix == SUFFIX:
        return read_feature_file(path)
    what = f"not a data set: neither a folder in the published layout nor a {SUFFIX} file"
    raise DatasetError(path, [Problem(str(path), what)])


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
    """The result of checking a data set.

    Attributes:
        name: Of the data set.
        simulated: Whether all clips are marked as made up; None where there are no clip features.
        splits: Counted against the published table.
        mixed_up: Classes that the reference loader trains on another class's text; None where there
            are no text vectors.
        problems: Every fault that makes the data set unusable.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    simulated: bool | None
    splits: tuple[SplitCount, ...]
    mixed_up: tuple[str, ...] | None
    problems: tuple[str, ...]


def check_features(data: GzslData) -> DatasetCheck:
    """Count the clips of a data set that was read without problems."""
    counts = {split: (len(clips.classes()), len(clips)) for split, clips in data.named_splits()}
    return DatasetCheck(
        name=data.name,
        simulated=data.simulated,
        splits=_compare(data.name, counts),
        mixed_up=None,
        problems=(),
    )


def check_published(root: Path) -> DatasetCheck:
    """Check a folder in the published layout; faults don't end the check.

    Raises:
        DatasetError: It is none of the three data sets.
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
    """Dimensions of the first clip, to compare others with where there is no text; 0 without clips."""
    for path in sorted((root / FEATURES / track / FOLDERS["train"]).glob("*.pkl")):
        try:
            return len(read_pickle(path, path.name)["features"][0])
        except (DatasetError, LookupError, TypeError):
            continue  # reported as a problem later
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
