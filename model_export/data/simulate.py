"""Write a SIMULATED data set of full size in the published layout.

Class lists, splits, clip counts and, where the source has them, text vectors are real; no feature comes from
a clip. For each track, with t the class's text vector about the mean of all texts, at unit length:

    centre  = text_signal * 0.7 * (t + t Q) + class_offset * e_class + modality_gap * e_track
    feature = centre + spread * (sqrt(2 low_rank_share) * shared + sqrt(2 (1 - low_rank_share)) * e_clip)

at unit length. Q is a random rotation and every e a random vector of about unit length, so that a shared part
of the class lies in the geometry of the text, a part that the text does not tell lies in the offset, clips
scatter within the class, partly along few directions that all classes share, and clips and texts lie in two
separate cones. Unseen classes can then be recognised by their text, but not well.
"""

import json
import pickle
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from model_export.data.gzsl_data import SPLIT_NAMES, Reals, SplitName
from model_export.data.published_layout import (
    FOLDERS,
    NOTICE,
    PUBLISHED_COUNTS,
    SIMULATED_PREFIX,
    Published,
    identify,
    read_classes,
    read_split_classes,
    split_problems,
)
from model_export.data.published_text import FEATURES, read_class_text, read_text_names
from model_export.errors import DatasetError, Problem

TRACKS: Final = ("video", "audio")
PREFIXES: Final = ("", "wavcaps_")
RANDOM_TEXT_SIZES: Final = (512, 1024)  # CLIP ViT-B/32 and WavCaps CLAP
N_TEXT_TOPICS: Final = 16


@dataclass(frozen=True)
class Knobs:
    """How clip features are made up.

    By default the noise has variance 2 along the shared directions and 1 elsewhere, in units of 2.5 squared.
    An easier law has 1 and 1: spread 2.5, low_rank_share 0.5.

    Attributes:
        text_signal: Strength of what the class's text tells.
        class_offset: Strength of what distinguishes the class but the text does not tell.
        spread: Of clips within a class, against a centre of about unit length.
        low_rank_share: Share of the spread's variance along directions that all classes share, 0..1.
        n_shared_directions: How many those are.
        modality_gap: Distance between the cone of the clips and that of the texts.
    """

    text_signal: float = 0.6
    class_offset: float = 0.8
    spread: float = 3.062
    low_rank_share: float = 2 / 3
    n_shared_directions: int = 64
    modality_gap: float = 1.5


@dataclass(frozen=True)
class Simulated:
    """What was written.

    Attributes:
        root: Of the data set.
        name: Of the data set it stands for.
        n_clips: Of each split.
        text: `real` or `random`.
    """

    root: Path
    name: str
    n_clips: dict[SplitName, int]
    text: str


def simulate(
    source: Path, out: Path, seed: int, knobs: Knobs | None = None, n_clips_per_class: int | None = None
) -> Simulated:
    """Write a simulated data set; class by class, so that memory stays small.

    Args:
        source: Folder in the published layout with at least its `class-split`; text vectors that it has
            are used, otherwise they are random with some topics, as the notice says.
        out: Must not exist.
        seed: The same arguments give the same features.
        knobs: How features are made up.
        n_clips_per_class: In `train`, `val_unseen` and `test_unseen`, and a third of it in the others; None
            writes as many clips as were published.

    Raises:
        DatasetError: The source's lists are not usable, or `out` exists.
    """
    if out.exists():
        raise DatasetError(out, [Problem(str(out), "exists already; choose another folder")])
    knobs = knobs or Knobs()
    published, classes, members = _read_lists(source)
    partial = out.with_name(out.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        _copy_lists(source, partial, published)
        kind, text = _write_text(source, partial, published, classes, seed)
        counts = _clip_counts(published, members, n_clips_per_class)
        worlds = [World.of(t, np.random.default_rng([seed, i]), knobs) for i, t in enumerate(text)]
        n_clips = {
            split: _write_split(partial, split, members[split], classes, counts[split], worlds, seed)
            for split in SPLIT_NAMES
        }
        notice = {"SIMULATED": published.name, "seed": seed, "text_vectors": kind, "knobs": asdict(knobs)}
        (partial / NOTICE).write_text(json.dumps(notice, indent=2) + "\n", encoding="utf-8")
        partial.rename(out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return Simulated(out, published.name, n_clips, kind)


@dataclass(frozen=True)
class World:
    """One track: where its classes lie and how its clips scatter.

    Attributes:
        centres: float64 [n_classes, d].
        shared: float64 [n_shared_directions, d].
        knobs: How strong each part is.
    """

    centres: Reals
    shared: Reals
    knobs: Knobs

    @classmethod
    def of(cls, text: Reals, random: np.random.Generator, knobs: Knobs) -> "World":
        """Draw the world of classes with these text vectors [n_classes, d]."""
        d = text.shape[1]
        t = text - text.mean(0)
        t /= np.maximum(np.linalg.norm(t, axis=1, keepdims=True), 1e-12)
        gap = random.normal(size=d) / np.sqrt(d) * knobs.modality_gap
        rotation, _ = np.linalg.qr(random.normal(size=(d, d)))
        offset = knobs.class_offset * random.normal(size=t.shape) / np.sqrt(d)
        shared = random.normal(size=(knobs.n_shared_directions, d)) / np.sqrt(d)
        return cls(knobs.text_signal * 0.7 * (t + t @ rotation) + offset + gap, shared, knobs)

    def clips(self, c: int, n: int, random: np.random.Generator) -> NDArray[np.float32]:
        """Unit-length features [n, d] of class c, rounded to half precision."""
        k, d = self.shared.shape
        share = self.knobs.low_rank_share
        along = random.normal(size=(n, k)) @ self.shared / np.sqrt(k)
        noise = np.sqrt(2 * share) * along + np.sqrt(2 * (1 - share)) * random.normal(size=(n, d)) / np.sqrt(
            d
        )
        rows = self.centres[c] + self.knobs.spread * noise
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        unit: NDArray[np.float32] = rows.astype(np.float16).astype(np.float32)
        return unit


def _read_lists(source: Path) -> tuple[Published, tuple[str, ...], dict[SplitName, tuple[str, ...]]]:
    published, problems = identify(source), list[Problem]()
    classes = read_classes(source, problems)
    members = {split: read_split_classes(source, split, classes, problems) for split in SPLIT_NAMES}
    problems += split_problems(members)
    if problems:
        raise DatasetError(source, problems)
    return published, classes, members


def _copy_lists(source: Path, out: Path, published: Published) -> None:
    names = ["all_class.txt", published.names_csv, *(f"cls_split/{f}.txt" for f in FOLDERS.values())]
    (out / "class-split" / "cls_split").mkdir(parents=True)
    for name in names:
        shutil.copyfile(source / "class-split" / name, out / "class-split" / name)


def _write_text(
    source: Path, out: Path, published: Published, classes: tuple[str, ...], seed: int
) -> tuple[str, list[Reals]]:
    """Copy the text vectors, or make some up: `real` or `random`, and both encoders' vectors by class."""
    files = [f"{FEATURES}/text/{prefix}word_embeddings_{published.key}_normed.npy" for prefix in PREFIXES]
    (out / FEATURES / "text").mkdir(parents=True)
    real = [(source / file).is_file() for file in files]
    if any(real):
        for file, there in zip(files, real, strict=True):
            if there:
                shutil.copyfile(source / file, out / file)
    else:
        for file, table in zip(files, _random_text(source, published, classes, seed), strict=True):
            np.save(out / file, table)
    problems: list[Problem] = []
    text = read_class_text(out, published.key, published.names_csv, classes, problems, legacy_order=False)
    if text is None or problems:
        raise DatasetError(source, problems)
    return "real" if any(real) else "random", [t.astype(np.float64) for t in text]


def _random_text(source: Path, published: Published, classes: tuple[str, ...], seed: int) -> Iterator[Any]:
    """Unit-length vectors by text, in which some classes are more alike than others."""
    names = read_text_names(source, published.names_csv, [])
    for rows in random_texts(len(classes), np.random.default_rng([seed, len(TRACKS)])):
        texts = [names[name].get("clip_class_name") or names[name]["manual"] for name in classes]
        yield {text: row.astype(np.float32) for text, row in zip(texts, rows, strict=True)}


def random_texts(n_classes: int, random: np.random.Generator) -> Iterator[Reals]:
    """For each track unit-length vectors [n_classes, d], of which some are more alike than others."""
    weights = random.normal(size=(n_classes, N_TEXT_TOPICS)) / np.sqrt(N_TEXT_TOPICS)
    for d in RANDOM_TEXT_SIZES:
        rows = weights @ random.normal(size=(N_TEXT_TOPICS, d)) + random.normal(size=(n_classes, d)) + 1
        yield rows / np.linalg.norm(rows, axis=1, keepdims=True)


def _clip_counts(
    published: Published, members: dict[SplitName, tuple[str, ...]], n_per_class: int | None
) -> dict[SplitName, int]:
    """Clips of each split."""
    if n_per_class is None:
        counts = zip(SPLIT_NAMES, PUBLISHED_COUNTS[published.name], strict=True)
        return {split: n_clips for split, (_, n_clips) in counts}
    few = max(1, n_per_class // 3)
    return {s: len(names) * (few if s.endswith("_seen") else n_per_class) for s, names in members.items()}


def _write_split(
    out: Path,
    split: SplitName,
    names: tuple[str, ...],
    classes: tuple[str, ...],
    n_clips: int,
    worlds: list[World],
    seed: int,
) -> int:
    """Write a split's clips, as evenly over its classes as their number allows."""
    for i, name in enumerate(names):
        n = n_clips // len(names) + (i < n_clips % len(names))
        c = classes.index(name)
        random = np.random.default_rng([seed, len(TRACKS) + 1, SPLIT_NAMES.index(split), c])
        clip_names = [SIMULATED_PREFIX + f"{split}_{c}_{k:04d}".encode() for k in range(n)]
        for track, world in zip(TRACKS, worlds, strict=True):
            path = out / FEATURES / track / FOLDERS[split] / f"{name}.pkl"
            path.parent.mkdir(parents=True, exist_ok=True)
            item = {"features": list(world.clips(c, n, random)), "video_names": clip_names, "fps": [25] * n}
            path.write_bytes(pickle.dumps(item, protocol=4))
    return n_clips
