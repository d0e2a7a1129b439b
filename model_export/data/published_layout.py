"""Read VGGSound-GZSL, UCF-GZSL and ActivityNet-GZSL as their authors lay them out on disk.

What is read of ROOT:

    ROOT/class-split/all_class.txt                  one class a line; its id is its rank in the sorted list
    ROOT/class-split/<data set>_*_class_names.csv   original,manual[,clip_class_name]: class -> text
    ROOT/class-split/cls_split/<split>.txt          the classes of a split
    ROOT/features/cls_features_non_averaged/{video,audio}/<split>/<class>.pkl
    ROOT/features/cls_features_non_averaged/text/[wavcaps_]word_embeddings_<data set>_normed.npy
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from model_export.data.gzsl_data import (
    NO_TRACK,
    RANDOM_TEXTS,
    SPLIT_NAMES,
    GzslData,
    SplitFeatures,
    SplitName,
    TextOrder,
    data_problems,
)
from model_export.data.pickles import read_pickle
from model_export.data.published_text import FEATURES, read_class_text
from model_export.errors import DatasetError, Problem
from service.arrays import Array

FOLDERS: Final[dict[SplitName, str]] = {
    "train": "stage_1_train",
    "val_seen": "stage_1_val_seen",
    "val_unseen": "stage_1_val_unseen",
    "test_seen": "stage_2_test_seen",
    "test_unseen": "stage_2_test_unseen",
}
# Classes and clips of train, val_seen, val_unseen, test_seen, test_unseen (CLIP-CLAP's public data).
PUBLISHED_COUNTS: Final[dict[str, tuple[tuple[int, int], ...]]] = {
    "UCF-GZSL": ((30, 3174), (30, 353), (12, 1467), (42, 555), (6, 845)),
    "ActivityNet-GZSL": ((99, 9204), (99, 1023), (51, 4307), (150, 1615), (48, 4052)),
    "VGGSound-GZSL": ((138, 70351), (138, 7817), (69, 3102), (207, 9032), (64, 3200)),
}
NOTICE: Final = "SIMULATED.json"  # how the features of a simulated data set were drawn
SIMULATED_PREFIX: Final = b"sim_"  # the names of simulated clips start so


@dataclass(frozen=True)
class Published:
    """One of the three published data sets.

    Attributes:
        name: As papers write it.
        key: As file names write it.
        names_csv: Table from class to text.
    """

    name: str
    key: str
    names_csv: str

    @property
    def encoders(self) -> str:
        """What its features say of the encoders that made them."""
        return f"as published with {self.name}"


PUBLISHED: Final = (
    Published("ActivityNet-GZSL", "activitynet", "activitynet_w2v_class_names.csv"),
    Published("VGGSound-GZSL", "vggsound", "vggsound_w2v_class_names.csv"),
    Published("UCF-GZSL", "ucf", "ucf_clip_class_names.csv"),
)


def read_published(root: Path, *, legacy_text_order: bool = False) -> GzslData:
    """Read one published data set.

    Args:
        root: Folder that holds `class-split` and `features`.
        legacy_text_order: Join classes and text as the reference loader does, by rank of different lists;
            8 of 200 ActivityNet and 205 of 309 VGGSound classes then get another class's text. Needed only
            to reproduce the published runs.

    Raises:
        DatasetError: With every problem found, each naming its file and row.
    """
    published = identify(root)
    problems: list[Problem] = []
    classes = read_classes(root, problems)
    members = {split: read_split_classes(root, split, classes, problems) for split in SPLIT_NAMES}
    problems += split_problems(members)
    text = read_class_text(
        root, published.key, published.names_csv, classes, problems, legacy_order=legacy_text_order
    )
    if problems or text is None:
        raise DatasetError(root, problems)
    ids = {name: i for i, name in enumerate(classes)}
    sizes = (text[0].shape[1], text[1].shape[1])
    read = {
        split: read_clips(root, FOLDERS[split], members[split], ids, sizes, problems) for split in SPLIT_NAMES
    }
    if problems:
        raise DatasetError(root, problems)
    splits = {split: clips for split, (clips, _) in read.items()}
    simulated = all(made_up for _, made_up in read.values())
    encoders = "simulated" if simulated else published.encoders
    order: TextOrder = "legacy" if legacy_text_order else "by_name"
    law = read_law(root) if simulated else ""
    data = GzslData(published.name, simulated, classes, *text, splits, encoders, order, law)
    if problems := data_problems(data):
        raise DatasetError(root, problems)
    return data


def read_law(root: Path) -> str:
    """By what rule simulated features were drawn, the seed left out; empty where that is not stated."""
    try:
        notice = json.loads((root / NOTICE).read_text(encoding="utf-8"))
        texts = RANDOM_TEXTS if notice["text_vectors"] == "random" else "real texts"
        return json.dumps([texts, notice["knobs"]], sort_keys=True)
    except (OSError, ValueError, LookupError, TypeError):
        return ""


def identify(root: Path) -> Published:
    """Identify the data set by its table of class names.

    Raises:
        DatasetError: None of the three, or more than one.
    """
    found = [p for p in PUBLISHED if (root / "class-split" / p.names_csv).is_file()]
    if len(found) != 1:
        names = ", ".join(p.names_csv for p in PUBLISHED)
        raise DatasetError(root, [Problem("class-split", f"should hold exactly one of {names}")])
    return found[0]


def read_classes(root: Path, problems: list[Problem]) -> tuple[str, ...]:
    """All class names, sorted: a class's id is its rank."""
    return tuple(sorted(_read_names(root, "class-split/all_class.txt", problems)))


def read_split_classes(
    root: Path, split: SplitName, classes: tuple[str, ...], problems: list[Problem]
) -> tuple[str, ...]:
    """Sorted names of the classes of a split, all of them known ones."""
    shown = f"class-split/cls_split/{FOLDERS[split]}.txt"
    names = _read_names(root, shown, problems)
    known = {c.lower(): c for c in classes} | {c: c for c in classes}
    found = [known.get(name, known.get(name.lower())) for name in names]  # UCF's lists differ in case
    unknown = ((i, n) for i, (n, own) in enumerate(zip(names, found, strict=True)) if own is None)
    problems += [Problem(shown, f"unknown class {n!r}", i) for i, n in unknown]
    return tuple(sorted(name for name in found if name is not None))


def split_problems(members: dict[SplitName, tuple[str, ...]]) -> list[Problem]:
    """Why the five splits are no zero-shot benchmark."""

    def shown(split: SplitName) -> str:
        return f"class-split/cls_split/{FOLDERS[split]}.txt"

    train, val, test = set(members["train"]), set(members["val_unseen"]), set(members["test_unseen"])
    found = [Problem(shown(split), "lists no class") for split in SPLIT_NAMES if not members[split]]
    if set(members["val_seen"]) != train:
        found.append(Problem(shown("val_seen"), "does not list the classes of stage_1_train"))
    if set(members["test_seen"]) != train | val:
        found.append(Problem(shown("test_seen"), "does not list the classes trained on in stage 2"))
    overlaps: tuple[tuple[SplitName, set[str]], ...] = (
        ("val_unseen", val & train),
        ("test_unseen", test & (train | val)),
    )
    for split, overlap in overlaps:
        found += [Problem(shown(split), f"class {n!r} is trained on") for n in sorted(overlap)]
    return found


def read_clips(
    root: Path,
    folder: str,
    names: tuple[str, ...],
    ids: dict[str, int],
    sizes: tuple[int, int],
    problems: list[Problem],
) -> tuple[SplitFeatures, bool]:
    """Clips of one split, and whether all of them are marked as simulated."""
    visual, audio = [np.empty((0, sizes[0]), np.float32)], [np.empty((0, sizes[1]), np.float32)]
    index = [np.empty(0, np.int64)]
    simulated = True
    for name in names:
        v, v_made_up = _read_track(root, f"video/{folder}", name, sizes[0], problems)
        a, a_made_up = _read_track(root, f"audio/{folder}", name, sizes[1], problems)
        simulated = simulated and v_made_up and a_made_up
        if len(v) and len(a) and len(v) != len(a):
            where = f"{FEATURES}/audio/{folder}/{name}.pkl"
            problems.append(Problem(where, f"{len(a)} clips, but the file in video has {len(v)}"))
            continue
        if len(v) and len(a):
            shown = f"{FEATURES}/video/{folder}/{name}.pkl"
            neither = np.flatnonzero(~v.any(axis=1) & ~a.any(axis=1))
            problems += [Problem(shown, NO_TRACK, int(row)) for row in neither]
        visual.append(v)
        audio.append(a)
        index.append(np.full(len(v), ids[name], dtype=np.int64))
    return SplitFeatures(np.concatenate(visual), np.concatenate(audio), np.concatenate(index)), simulated


def _read_track(root: Path, folder: str, name: str, size: int, problems: list[Problem]) -> tuple[Array, bool]:
    """One class's features float32 [n, size] of one track; no row where there is a problem."""
    nothing = np.empty((0, size), np.float32)
    path = _find(root / FEATURES / folder, f"{name}.pkl")
    shown = f"{FEATURES}/{folder}/{name}.pkl"
    try:
        held = read_pickle(path, shown)
    except DatasetError as error:
        problems += error.problems
        return nothing, False
    if not isinstance(held, dict) or not isinstance(held.get("features"), list | tuple | np.ndarray):
        problems.append(Problem(shown, "holds no list 'features'"))
        return nothing, False
    rows = list(held["features"])
    found = row_problems(shown, rows, size) if rows else [Problem(shown, "holds no clip")]
    problems += found
    if found:
        return nothing, False
    clip_names = held.get("video_names", ())
    made_up = len(clip_names) > 0 and all(bytes_of(n).startswith(SIMULATED_PREFIX) for n in clip_names)
    return np.stack(rows).astype(np.float32), made_up


def row_problems(shown: str, rows: list[object], size: int) -> list[Problem]:
    """Rows that are not vectors of `size` finite numbers."""
    found = []
    for i, row in enumerate(rows):
        if not isinstance(row, np.ndarray) or row.dtype.kind not in "fiu":
            found.append(Problem(shown, "not a numeric array", i))
        elif row.shape != (size,):
            found.append(Problem(shown, f"shape {row.shape}, expected ({size},) as the text vectors have", i))
        elif not np.isfinite(row).all():
            found.append(Problem(shown, "NaN or infinite", i))
    return found


def bytes_of(name: object) -> bytes:
    """A clip's name as bytes; files hold bytes or text."""
    return name if isinstance(name, bytes) else str(name).encode()


def _find(folder: Path, file_name: str) -> Path:
    """The file of that name; UCF's lists and files differ in upper and lower case."""
    exact = folder / file_name
    if exact.exists() or not folder.is_dir():
        return exact
    return next((p for p in folder.iterdir() if p.name.lower() == file_name.lower()), exact)


def _read_names(root: Path, shown: str, problems: list[Problem]) -> list[str]:
    """Names in a list file, one a line, each once."""
    try:
        lines = (root / shown).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        problems.append(Problem(shown, f"cannot be read: {error}"))
        return []
    names = [line.strip() for line in lines if line.strip()]
    seen: set[str] = set()
    for row, name in enumerate(names):
        if name in seen:
            problems.append(Problem(shown, f"class {name!r} is listed twice", row))
        seen.add(name)
    return sorted(seen)
