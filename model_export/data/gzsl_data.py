"""A data set as training and evaluation take it, and the checks that every data set must pass."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from model_export.errors import Problem
from service.arrays import Array
from service.media import Tracks

Reals = NDArray[np.float64]
Indices = NDArray[np.int64]
Track = Tracks
TextOrder = Literal["by_name", "legacy"]
SINGLE_TRACKS: Final[tuple[Track, ...]] = ("visual", "audio")
SplitName = Literal["train", "val_seen", "val_unseen", "test_seen", "test_unseen"]
NO_TRACK: Final = "a clip with neither a visual nor an audio track: all zero"
RANDOM_TEXTS: Final = "texts drawn too"
"""Part of the law of data sets whose texts are made up as well."""
SPLIT_NAMES: Final[tuple[SplitName, ...]] = ("train", "val_seen", "val_unseen", "test_seen", "test_unseen")


@dataclass(frozen=True)
class SplitFeatures:
    """The clips of one split, one row each.

    Attributes:
        visual: float32 [n, n_visual], any length; a row of zeros where the clip has no visual track.
        audio: float32 [n, n_audio], likewise for audio.
        class_index: int64 [n], row of the clip's class in `GzslData.class_names`.
    """

    visual: Array
    audio: Array
    class_index: Indices

    def __len__(self) -> int:
        return len(self.class_index)

    def classes(self) -> Indices:
        """Sorted ids of the classes that have clips here."""
        return np.unique(self.class_index)


@dataclass(frozen=True)
class Stage:
    """One of the two stages: the clips that it trains on, and those that measure it.

    Attributes:
        train: Clips of the seen classes.
        eval_seen: Other clips of the seen classes.
        eval_unseen: Clips of the unseen classes.
        seen: int64, sorted ids of the classes trained on.
        unseen: int64, sorted ids of the classes that are known by name only.
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
        name: For reports.
        simulated: Whether the clip features were made up; every table then says so.
        class_names: One per class, unique.
        text_visual: float32 [n_classes, n_visual], from the text encoder that belongs to the image encoder.
        text_audio: float32 [n_classes, n_audio], from the text encoder that belongs to the audio encoder.
        splits: The five splits. Classes of `val_seen` are those of `train`; classes of `test_seen` are
            those of `train` and `val_unseen`.
        encoders: Which encoders made the features, e.g. the digest of a bundle; empty where unknown.
        text_order: How classes and texts were joined: by name, or mixed up as the reference loader does.
        law: Of made-up features, by what rule they were drawn; empty where unknown, and for real clips.
    """

    name: str
    simulated: bool
    class_names: tuple[str, ...]
    text_visual: Array
    text_audio: Array
    splits: Mapping[SplitName, SplitFeatures]
    encoders: str = ""
    text_order: TextOrder = "by_name"
    law: str = ""

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
        """SHA-256 of names, features and splits: identifies the data that a run was trained on."""
        digest = hashlib.sha256("\0".join(self.class_names).encode())
        for array in (self.text_visual, self.text_audio):
            digest.update(np.ascontiguousarray(array).data)
        for _, split in self.named_splits():
            for values in (split.visual, split.audio, split.class_index):
                digest.update(np.ascontiguousarray(values).data)
        return digest.hexdigest()

    def pool(self) -> str:
        """SHA-256 that is equal where runs may be averaged: on one data set, or on draws from one law.

        Draws from a law have the same classes, numbers of clips, and texts, unless the law draws these too.
        """
        if not self.law:
            return self.fingerprint()
        digest = hashlib.sha256("\0".join((self.law, self.text_order, *self.class_names)).encode())
        if RANDOM_TEXTS not in self.law:
            for array in (self.text_visual, self.text_audio):
                digest.update(np.ascontiguousarray(array).data)
        for _, split in self.named_splits():
            digest.update(np.ascontiguousarray(split.class_index).data)
        return digest.hexdigest()

    def named_splits(self) -> Iterator[tuple[SplitName, SplitFeatures]]:
        """The splits in the order of SPLIT_NAMES."""
        return ((name, self.splits[name]) for name in SPLIT_NAMES)


def join(parts: tuple[SplitFeatures, ...]) -> SplitFeatures:
    """Concatenate splits."""
    return SplitFeatures(
        visual=np.concatenate([part.visual for part in parts]),
        audio=np.concatenate([part.audio for part in parts]),
        class_index=np.concatenate([part.class_index for part in parts]),
    )


def data_problems(data: GzslData) -> list[Problem]:
    """Every problem of a data set; `file` of each is the array meant, e.g. `train.visual`."""
    return [*_name_problems(data), *_text_problems(data), *_clip_problems(data), *_split_problems(data)]


def _name_problems(data: GzslData) -> Iterator[Problem]:
    first: dict[str, int] = {}
    for row, name in enumerate(data.class_names):
        if not name.strip():
            yield Problem("class_names", "an empty name", row)
        elif first.setdefault(name, row) != row:
            yield Problem("class_names", f"class {name!r} is listed twice", row)


def _text_problems(data: GzslData) -> Iterator[Problem]:
    for name, rows in (("text_visual", data.text_visual), ("text_audio", data.text_audio)):
        if rows.ndim != 2 or len(rows) != len(data.class_names):
            yield Problem(name, f"shape {rows.shape}, expected one row for each class")
            continue
        yield from _not_finite(name, rows)
        for row in np.flatnonzero(~rows.any(axis=1)):
            yield Problem(name, f"class {data.class_names[row]!r} has no text: all zero", int(row))


def _clip_problems(data: GzslData) -> Iterator[Problem]:
    for split, clips in data.named_splits():
        if not len(clips):
            yield Problem(split, "holds no clip")
        sizes = (("visual", clips.visual, data.n_visual), ("audio", clips.audio, data.n_audio))
        for track, rows, size in sizes:
            if rows.shape != (len(clips), size):
                yield Problem(f"{split}.{track}", f"shape {rows.shape}, expected {(len(clips), size)}")
            else:
                yield from _not_finite(f"{split}.{track}", rows)
        yield from _row_problems(split, clips, len(data.class_names))


def _not_finite(name: str, rows: Array) -> Iterator[Problem]:
    for row in np.flatnonzero(~np.isfinite(rows).all(axis=1)):
        yield Problem(name, "NaN or infinite", int(row))


def _row_problems(split: str, clips: SplitFeatures, n_classes: int) -> Iterator[Problem]:
    index = clips.class_index
    for row in np.flatnonzero((index < 0) | (index >= n_classes)):
        yield Problem(f"{split}.class_index", f"no class {index[row]}", int(row))
    if len(clips.visual) == len(clips.audio) == len(index):
        for row in np.flatnonzero(~clips.visual.any(axis=1) & ~clips.audio.any(axis=1)):
            yield Problem(split, NO_TRACK, int(row))


def _split_problems(data: GzslData) -> Iterator[Problem]:
    classes = {split: set(clips.class_index.tolist()) for split, clips in data.named_splits()}
    seen = classes["train"] | classes["val_unseen"]
    overlaps = (
        ("val_unseen", classes["val_unseen"] & classes["train"]),
        ("test_unseen", classes["test_unseen"] & seen),
    )
    strangers = (
        ("val_seen", classes["val_seen"] - classes["train"]),
        ("test_seen", classes["test_seen"] - seen),
    )
    for split, found in overlaps:
        for c in sorted(found):
            yield Problem(split, f"class {_name(data, c)} is trained on")
    for split, found in strangers:
        for c in sorted(found):
            yield Problem(split, f"class {_name(data, c)} is not trained on")


def _name(data: GzslData, index: int) -> str:
    return repr(data.class_names[index]) if 0 <= index < len(data.class_names) else str(index)
