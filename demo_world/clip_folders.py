"""Clips in folders: the data of the demo's head, a folder for each class as users have them, the examples."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from numpy.random import Generator

from demo_world.recording import ClipFormat, ClipPlan, Studio, clip_rng, run_in_processes
from demo_world.world import ClassSpec, PictureClutter, SoundClutter, Split, World
from model_export.data.gzsl_data import SPLIT_NAMES, SplitName
from model_export.progress import Progress
from service.errors import AhseError

# Streams of random numbers, so that no clip of one kind repeats a clip of another.
_HEAD_CLIPS, _EXAMPLES, _CLASS_FOLDERS = 2, 5, 6
_CHUNK = 200

_GENTLE_PICTURE = PictureClutter(
    size=(0.34, 0.54), n_distractors=(2, 4), occluder_probability=0.3, contrast=0.45, noise=(0.0, 0.012)
)
_GENTLE_SOUND = SoundClutter(
    snr_db=(9.0, 18.0),
    level_db=(-27.0, -23.0),
    pitch_semitones=4.0,
    tempo_octaves=0.3,
    intruder_probability=0.2,
)
_EXAMPLE_SIZES = ((288, 384), (320, 320), (288, 512))
_N_SEEN, _N_UNSEEN = 6, 8


class FolderTakenError(AhseError):
    """The folder to write into holds something."""

    code = "folder_taken"


@dataclass(frozen=True)
class HeadClip:
    """One clip of the head's data."""

    path: Path
    class_index: int
    split: SplitName
    number: int


def list_head_clips(world: World, folder: Path) -> list[HeadClip]:
    """Every clip of the head's data; the final head has seen the classes that were unseen in validation."""
    counts = world.counts
    wanted: dict[SplitName, dict[str, int]] = {
        "train": {"seen": counts.train},
        "val_seen": {"seen": counts.val_seen},
        "val_unseen": {"val_unseen": counts.val_unseen},
        "test_seen": {"seen": counts.test_seen, "val_unseen": counts.test_seen},
        "test_unseen": {"test_unseen": counts.test_unseen},
    }
    return [
        HeadClip(folder / split / f"{index:02d}_{number:03d}.mp4", index, split, number)
        for split, per_class in wanted.items()
        for index, spec in enumerate(world.classes)
        for number in range(per_class.get(spec.split, 0))
    ]


@dataclass(frozen=True)
class _HeadTask:
    world: World
    seed: int
    clips: tuple[HeadClip, ...]


def record_clips(world: World, seed: int, clips: Sequence[HeadClip], progress: Progress) -> None:
    """Record clips of the head's data, each as its file; those that are there already are kept."""
    missing = [clip for clip in clips if not clip.path.is_file()]
    tasks = [_HeadTask(world, seed, tuple(missing[i : i + _CHUNK])) for i in range(0, len(missing), _CHUNK)]
    n_done = 0
    for n in run_in_processes(_record_clips, tasks):
        n_done += n
        progress(f"recorded clips: {n_done} of {len(missing)}")


def _record_clips(task: _HeadTask) -> int:
    studio = Studio(task.world)
    for clip in task.clips:
        clip.path.parent.mkdir(parents=True, exist_ok=True)
        partial = clip.path.with_suffix(".partial")  # so that a clip that is there is whole
        studio.record(plan_head_clip(studio, task.seed, clip), partial)
        partial.replace(clip.path)
    return len(task.clips)


def plan_head_clip(studio: Studio, seed: int, clip: HeadClip) -> ClipPlan:
    """Plan a clip of the head's data."""
    spec = studio.world.classes[clip.class_index]
    split = SPLIT_NAMES.index(clip.split)
    rng = clip_rng(seed, _HEAD_CLIPS, split, clip.class_index, clip.number)
    return studio.plan(rng, spec.shape, spec.sound)


def write_dataset(folder: Path, seed: int, progress: Progress, world: World | None = None) -> Path:
    """Record the clips that the demo's own head is trained and measured on.

    Args:
        folder: Folder to write; must be empty if it exists.
        seed: The demo bundle was made with 0.
        progress: Called with one line of what was done.
        world: Smaller ones are for tests.

    Returns:
        The CSV of path,label,split, as `ahse extract` takes it.

    Raises:
        FolderTakenError: The folder holds something.
    """
    _check_empty(folder)
    return record_dataset(folder, seed, progress, world)


def record_dataset(folder: Path, seed: int, progress: Progress, world: World | None = None) -> Path:
    """Like `write_dataset`, in a folder that may hold some of these clips already: those are kept."""
    world = world or World()
    clips = list_head_clips(world, folder)
    record_clips(world, seed, clips, progress)
    listing = folder / "clips.csv"
    with listing.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("path", "label", "split"))
        rows.writerows(
            (clip.path.relative_to(folder).as_posix(), world.classes[clip.class_index].name, clip.split)
            for clip in clips
        )
    return listing


def write_class_folders(folder: Path, n_classes: int, per_class: int, seed: int) -> tuple[str, ...]:
    """Record clips like those of the examples, but small, as CLASS/000.mp4 and so on.

    Args:
        folder: Folder to write, with one folder for each class; must be empty if it exists.
        n_classes: 1..96, taken at even distances from the demo world's classes.
        per_class: Clips of each.
        seed: The same seed gives the same clips.

    Returns:
        The names of the classes.

    Raises:
        FolderTakenError: The folder holds something.
    """
    _check_empty(folder)
    classes = World().classes
    chosen = [classes[i * len(classes) // n_classes] for i in range(n_classes)]
    tasks = [_FolderTask(folder, spec, number, per_class, seed) for number, spec in enumerate(chosen)]
    return tuple(run_in_processes(_record_folder, tasks))


@dataclass(frozen=True)
class _FolderTask:
    folder: Path
    spec: ClassSpec
    number: int
    n_clips: int
    seed: int


def _record_folder(task: _FolderTask) -> str:
    studio = Studio(replace(World(), picture=_GENTLE_PICTURE, sound=_GENTLE_SOUND))
    own = task.folder / task.spec.name
    own.mkdir(parents=True)
    for number in range(task.n_clips):
        rng = clip_rng(task.seed, _CLASS_FOLDERS, task.number, number)
        studio.record(studio.plan(rng, task.spec.shape, task.spec.sound), own / f"{number:03d}.mp4")
    return task.spec.name


@dataclass(frozen=True)
class Example:
    """One entry of examples.json.

    Attributes:
        file: Name of the clip.
        label: Name of its class.
        seen: Whether the head was trained on the class.
    """

    file: str
    label: str
    seen: bool


def write_examples(world: World, seed: int, folder: Path) -> list[Example]:
    """Record the example clips and examples.json into a folder.

    Besides the clips with both tracks there is one without sound and one without picture, listed apart.
    Older clips in the folder are removed. No clip is chosen or left out by what a model says of it.
    """
    studio = Studio(replace(world, picture=_GENTLE_PICTURE, sound=_GENTLE_SOUND))
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.mp4"):
        old.unlink()
    seen, unseen = _spread(world, "seen", _N_SEEN + 2), _spread(world, "test_unseen", _N_UNSEEN)
    clips = [
        _record_example(studio, folder, spec, seed, number)
        for number, spec in enumerate((*seen[:_N_SEEN], *unseen))
    ]
    silent = _record_example(studio, folder, seen[_N_SEEN], seed, 90, suffix="-silent", sound=False)
    sound_only = _record_example(
        studio, folder, seen[_N_SEEN + 1], seed, 91, suffix="-sound-only", picture=False
    )
    record = {
        "labels": [spec.name for spec in world.classes],
        "clips": [vars(example) for example in clips],
        "one_track": [
            {**vars(silent), "missing": "sound"},
            {**vars(sound_only), "missing": "picture"},
        ],
    }
    (folder / "examples.json").write_text(json.dumps(record, indent=2) + "\n")
    return clips


def _spread(world: World, split: Split, n: int) -> list[ClassSpec]:
    """Classes taken at even distances from a split."""
    specs = world.candidates((split,))
    return [specs[i * len(specs) // n] for i in range(n)]


def _record_example(
    studio: Studio,
    folder: Path,
    spec: ClassSpec,
    seed: int,
    number: int,
    *,
    suffix: str = "",
    picture: bool = True,
    sound: bool = True,
) -> Example:
    rng = clip_rng(seed, _EXAMPLES, number)
    file = f"{spec.name.replace(' ', '-')}{suffix}.mp4"
    plan = studio.plan(rng, spec.shape, spec.sound, _example_format(rng))
    studio.record(plan, folder / file, picture=picture, sound=sound)
    return Example(file, spec.name, spec.split == "seen")


def _example_format(rng: Generator) -> ClipFormat:
    height, width = _EXAMPLE_SIZES[rng.integers(len(_EXAMPLE_SIZES))]
    return ClipFormat(float(rng.uniform(3.5, 5)), 25, height, width, rate_hz=44_100, crf=21, preset="medium")


def _check_empty(folder: Path) -> None:
    if folder.exists() and any(folder.iterdir()):
        raise FolderTakenError(f"{folder} is not empty; choose another folder")
