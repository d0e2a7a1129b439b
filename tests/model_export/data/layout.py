"""Write a small data set in the published layout."""

import csv
import pickle
from pathlib import Path
from typing import Any

import numpy as np

from model_export.data.published_layout import FOLDERS
from model_export.data.published_text import FEATURES

# Sorted by class and sorted by text these have different orders, as in the real lists.
CLASSES = {
    "Archery": "shooting arrows",
    "Baking": "baking",
    "Canoeing": "a canoe",
    "Diving": "diving",
    "Eating": "eating",
}
MEMBERS = {
    "train": ("Archery", "Baking", "Canoeing"),
    "val_seen": ("Archery", "Baking", "Canoeing"),
    "val_unseen": ("Diving",),
    "test_seen": ("Archery", "Baking", "Canoeing", "Diving"),
    "test_unseen": ("Eating",),
}
N_VISUAL, N_AUDIO, N_CLIPS = 3, 4, 2


def vector(size: int, text: str) -> np.ndarray:
    """A text's vector: different for every text."""
    return np.full(size, 1 + sorted(CLASSES.values()).index(text), np.float32)


def write_pickle(path: Path, value: Any) -> None:
    """Write a pickle, with its folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(value))


def write_layout(root: Path, clip_prefix: str = "clip_") -> Path:
    """Five classes, two clips of each in every split they belong to; row i of a file is all i + 1."""
    lists = root / "class-split"
    (lists / "cls_split").mkdir(parents=True)
    (lists / "all_class.txt").write_text("\n".join(reversed(CLASSES)) + "\n")
    with (lists / "activitynet_w2v_class_names.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("original", "manual"), *CLASSES.items()])
    text = root / FEATURES / "text"
    text.mkdir(parents=True)
    for prefix, size in (("", N_VISUAL), ("wavcaps_", N_AUDIO)):
        table: Any = {t: vector(size, t) for t in CLASSES.values()}
        np.save(text / f"{prefix}word_embeddings_activitynet_normed.npy", table)
    for split, folder in FOLDERS.items():
        (lists / "cls_split" / f"{folder}.txt").write_text("\n".join(MEMBERS[split]) + "\n")
        for name in MEMBERS[split]:
            for track, size in (("video", N_VISUAL), ("audio", N_AUDIO)):
                rows = [np.full(size, i + 1, np.float32) for i in range(N_CLIPS)]
                clips = [f"{clip_prefix}{name}_{i}".encode() for i in range(N_CLIPS)]
                value = {"features": rows, "video_names": clips, "fps": [25] * N_CLIPS}
                write_pickle(root / FEATURES / track / folder / f"{name}.pkl", value)
    return root
