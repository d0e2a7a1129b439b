"""Clips of the demo world as a user's own clips would lie there: a folder for each class, or a CSV of all."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from model_export.demo.clips import Studio
from model_export.demo.corpus import clip_rng, list_head_clips, record_clips, run_in_processes
from model_export.demo.examples import GENTLE_PICTURE, GENTLE_SOUND
from model_export.demo.world import ClassSpec, World
from service.errors import AhseError
from service.process import n_processors

_STREAM = 6


class FolderTakenError(AhseError):
    """The folder to write into holds something."""

    code = "folder_taken"


@dataclass(frozen=True)
class _Task:
    folder: Path
    spec: ClassSpec
    number: int
    n_clips: int
    seed: int


def write_class_folders(folder: Path, n_classes: int, per_class: int, seed: int) -> tuple[str, ...]:
    """Record clips like those of the examples, but small, as CLASS/000.mp4 and so on.

    Args:
        folder: Where the folders of the classes shall stand; made, or empty.
        n_classes: 1..96, taken at even distances from the demo world's classes.
        per_class: Clips of each.
        seed: The same seed gives the same clips.

    Returns:
        The names of the classes.

    Raises:
        FolderTakenError: the folder holds something.
    """
    _check_empty(folder)
    classes = World().classes
    chosen = [classes[i * len(classes) // n_classes] for i in range(n_classes)]
    tasks = [_Task(folder, spec, number, per_class, seed) for number, spec in enumerate(chosen)]
    return tuple(run_in_processes(_record, tasks, n_processors()))


def write_dataset(
    folder: Path, seed: int, progress: Callable[[str], None], world: World | None = None
) -> Path:
    """Record the clips that the demo's own head is trained and measured on.

    Args:
        folder: Where they shall stand; made, or empty.
        seed: The demo bundle was made with 0.
        progress: Told what is going on, a line at a time.
        world: Smaller ones are for tests.

    Returns:
        The CSV of path,label,split, as `ahse extract` takes it.

    Raises:
        FolderTakenError: the folder holds something.
    """
    _check_empty(folder)
    return record_dataset(folder, seed, progress, world)


def record_dataset(
    folder: Path, seed: int, progress: Callable[[str], None], world: World | None = None
) -> Path:
    """Like `write_dataset`, in a folder that may hold some of these clips already; they are kept."""
    world = world or World()
    clips = list_head_clips(world, folder)
    record_clips(world, seed, clips, n_workers=n_processors(), progress=progress)
    listing = folder / "clips.csv"
    with listing.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("path", "label", "split"))
        rows.writerows(
            (clip.path.relative_to(folder).as_posix(), world.classes[clip.class_index].name, clip.split)
            for clip in clips
        )
    return listing


def _check_empty(folder: Path) -> None:
    if folder.exists() and any(folder.iterdir()):
        raise FolderTakenError(f"{folder} is not empty; choose another folder")


def _record(task: _Task) -> str:
    studio = Studio(replace(World(), picture=GENTLE_PICTURE, sound=GENTLE_SOUND))
    own = task.folder / task.spec.name
    own.mkdir(parents=True)
    for number in range(task.n_clips):
        rng = clip_rng(task.seed, _STREAM, task.number, number)
        studio.record(studio.plan(rng, task.spec.shape, task.spec.sound), own / f"{number:03d}.mp4")
    return task.spec.name
