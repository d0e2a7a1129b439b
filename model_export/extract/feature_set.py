"""A feature set from extracted clips: splits for the clips, text features for their classes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from model_export.data.feature_file import FeatureSet
from model_export.data.gzsl_data import SplitName
from model_export.data.splits import (
    ClassTexts,
    ClipPool,
    choose_splits,
    choosing_problems,
    infer_splits,
    missing_splits,
)
from model_export.errors import DatasetError, Problem
from model_export.extract.extraction import Extracted
from model_export.extract.listing import ListedClip
from service.arrays import Array
from service.bundle.directory import file_sha256
from service.encode.text import encode_labels
from service.labels.label import make_label
from service.registry import Bundle


def split_clips(
    source: Path,
    clips: Sequence[ListedClip],
    seed: int,
    unseen: Sequence[str],
    listed: Sequence[ListedClip] | None = None,
) -> list[SplitName | None]:
    """A split for each clip: as listed, else chosen by the seed; None where a class is left out.

    Args:
        source: Of the clips, for the error.
        clips: To be split.
        seed: Of the choice.
        unseen: Classes that shall be unseen in the test.
        listed: These clips and those that can't be used, which tell too which classes a CSV calls unseen;
            None: there are no others.

    Raises:
        DatasetError: These clips can't be split so that a head can be trained and measured.
    """
    labels = [clip.label for clip in clips]
    is_given = any(clip.split is not None for clip in clips)
    splits: list[SplitName | None] = _given_splits(clips, listed or clips) if is_given else []
    if not is_given:
        problems = choosing_problems(labels, unseen)
    elif unseen:
        problems = [Problem("unseen", "the column split already decides it; use one of the two")]
    else:
        problems = missing_splits(splits)
    if problems:
        raise DatasetError(source, problems)
    return splits if is_given else choose_splits(labels, seed, unseen)


def _given_splits(clips: Sequence[ListedClip], listed: Sequence[ListedClip]) -> list[SplitName | None]:
    """As a CSV gives them; None for classes whose clips for training can't be used.

    They stay what they are in the CSV: else one damaged clip would make an unseen class of a seen one.
    """
    given = [clip.split for clip in listed if clip.split is not None]
    inferred = infer_splits([clip.label for clip in listed], given)
    by_path = {clip.path: split for clip, split in zip(listed, inferred, strict=True)}
    lost, never = (
        _untrained({(clip.label, by_path[clip.path]) for clip in some}) for some in (clips, listed)
    )
    # What the CSV itself has wrong is not passed over, but refused when the features are written.
    return [None if clip.label in lost - never else by_path[clip.path] for clip in clips]


def _untrained(having: set[tuple[str, SplitName]]) -> set[str]:
    """The classes with clips of a seen class, but without those that make it one."""
    needed: Mapping[str, tuple[SplitName, ...]] = {
        "val_seen": ("train",),
        "test_seen": ("train", "val_unseen"),
    }
    return {
        label
        for label, split in having
        if split in needed and not any((label, one) in having for one in needed[split])
    }


def check_copies(source: Path, extracted: Extracted, splits: Sequence[SplitName | None]) -> None:
    """Refuse copies of one file in several splits or classes: what is learned of one would be tested on it.

    Only files with the same features are read.

    Raises:
        DatasetError: Names every copy.
    """
    features = [
        tuple(None if track is None else track.tobytes() for track in (one.visual, one.audio))
        for one in extracted.features
    ]
    n_alike, problems = Counter(features), list[Problem]()
    first: dict[str, tuple[ListedClip, SplitName]] = {}
    for clip, split, own in zip(extracted.clips, splits, features, strict=True):
        if split is None or n_alike[own] == 1:
            continue
        known, known_split = first.setdefault(file_sha256(clip.path), (clip, split))
        if (known.label, known_split) != (clip.label, split):
            what = f"is a copy of {known.name}, which is in {known_split} and of the class {known.label!r}"
            problems.append(
                Problem(clip.name, f"in {split} and of the class {clip.label!r}, {what}; keep one of them")
            )
    if problems:
        raise DatasetError(source, problems)


def assemble(
    extracted: Extracted, splits: Sequence[SplitName | None], bundle: Bundle, name: str
) -> FeatureSet:
    """Join extracted clips, their splits and the text features of their classes.

    Args:
        extracted: At least one clip of each split.
        splits: Of the clips.
        bundle: Bundle that made the features; its own templates are used.
        name: Of the data set.
    """
    manifest = bundle.manifest
    labels = tuple(clip.label for clip in extracted.clips)
    pool = ClipPool(
        visual=_rows([one.visual for one in extracted.features], manifest.visual.dim),
        audio=_rows([one.audio for one in extracted.features], manifest.audio.dim),
        labels=labels,
        names=tuple(clip.name for clip in extracted.clips),
    )
    classes = sorted(set(labels))
    texts = encode_labels(bundle.encoders, [make_label(label) for label in classes])
    known = ClassTexts(tuple(classes), texts.visual, texts.audio)
    return pool.assign(splits, known, name=name, encoders=manifest.encoders_digest())


def _rows(features: Sequence[Array | None], dim: int) -> Array:
    """One row a clip; zeros for a missing track."""
    none = np.zeros(dim, np.float32)
    return np.stack([none if one is None else one for one in features])
