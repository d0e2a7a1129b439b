"""What keeps features from being trained on, whatever file they came from."""

from collections.abc import Iterator

import numpy as np

from model_export.data.features import Floats, GzslData, SplitFeatures
from model_export.errors import Problem


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


def _not_finite(name: str, rows: Floats) -> Iterator[Problem]:
    for row in np.flatnonzero(~np.isfinite(rows).all(axis=1)):
        yield Problem(name, "NaN or infinite", int(row))


def _row_problems(split: str, clips: SplitFeatures, n_classes: int) -> Iterator[Problem]:
    index = clips.class_index
    for row in np.flatnonzero((index < 0) | (index >= n_classes)):
        yield Problem(f"{split}.class_index", f"no class {index[row]}", int(row))
    if len(clips.visual) == len(clips.audio) == len(index):
        for row in np.flatnonzero(~clips.visual.any(axis=1) & ~clips.audio.any(axis=1)):
            yield Problem(split, "a clip with neither picture nor sound: all zero", int(row))


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
