"""The head's data: the demo world's clips and class names, encoded as serving encodes them."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from model_export.data.features import SPLIT_NAMES, GzslData, SplitFeatures, SplitName
from model_export.demo.corpus import HeadClip, list_head_clips, record_clips, run_in_processes
from model_export.demo.encoders.trained import load_encoders
from model_export.demo.world import Kind, World
from service.decode import decode_clip
from service.media import DecodeLimits

Floats = NDArray[np.float32]
Progress = Callable[[str], None]

FEATURES_FILE = "features.npz"
_CHUNK = 200


@dataclass(frozen=True)
class DemoFeatures:
    """Everything that the head is trained and tested on.

    Attributes:
        data: Features, names and splits.
        kinds: What is new about each class's name, in the order of `data.class_names`.
        paths: The clip of each row of each split, relative to the work folder.
    """

    data: GzslData
    kinds: tuple[Kind, ...]
    paths: dict[SplitName, tuple[str, ...]]


def build_features(
    work: Path, seed: int, progress: Progress, world: World | None = None, n_workers: int = 2
) -> DemoFeatures:
    """Records the head's clips under `work / "clips"` and encodes them with `work / "encoders"`.

    Writes `work / "features.npz"`, which `load_features` reads.
    """
    world = world or World()
    clips = list_head_clips(world, work / "clips")
    record_clips(world, seed, clips, n_workers=n_workers, progress=progress)
    return encode_features(work, world, clips, progress, n_workers)


def encode_features(
    work: Path, world: World, clips: list[HeadClip], progress: Progress, n_workers: int = 2
) -> DemoFeatures:
    """Encodes recorded clips and all class names, and writes `work / "features.npz"`."""
    tasks = [_Task(work / "encoders", tuple(clips[i : i + _CHUNK])) for i in range(0, len(clips), _CHUNK)]
    visual, audio = [], []
    for seen, heard in run_in_processes(_encode, tasks, n_workers):
        visual.append(seen)
        audio.append(heard)
        progress(f"encoded clips: {min(len(visual) * _CHUNK, len(clips))} of {len(clips)}")
    arrays = _splits(work, clips, np.concatenate(visual), np.concatenate(audio))
    names = [spec.name for spec in world.classes]
    text_visual, text_audio = load_encoders(work / "encoders").encode_names(names)
    np.savez(
        work / FEATURES_FILE,
        class_names=np.array(names),
        kinds=np.array([spec.kind for spec in world.classes]),
        text_visual=text_visual,
        text_audio=text_audio,
        **arrays,
    )
    return load_features(work / FEATURES_FILE)


@dataclass(frozen=True)
class _Task:
    encoders: Path
    clips: tuple[HeadClip, ...]


def _encode(task: _Task) -> tuple[Floats, Floats]:
    """Features [n, dim] of both tracks of some clips. Runs in a process of its own, on one core."""
    torch.set_num_threads(1)
    encoders = load_encoders(task.encoders)
    spec, limits = encoders.decode_spec, DecodeLimits()
    pairs = [encoders.encode_clip(decode_clip(clip.path, spec, limits)) for clip in task.clips]
    return np.stack([visual for visual, _ in pairs]), np.stack([audio for _, audio in pairs])


def _splits(work: Path, clips: list[HeadClip], visual: Floats, audio: Floats) -> dict[str, Any]:
    """Arrays of each split, named as in the file."""
    arrays: dict[str, Any] = {}
    for name in SPLIT_NAMES:
        rows = [row for row, clip in enumerate(clips) if clip.split == name]
        arrays[f"{name}.visual"], arrays[f"{name}.audio"] = visual[rows], audio[rows]
        arrays[f"{name}.class_index"] = np.array([clips[row].class_index for row in rows], np.int64)
        arrays[f"{name}.path"] = np.array([clips[row].path.relative_to(work).as_posix() for row in rows])
    return arrays


def load_features(path: Path) -> DemoFeatures:
    """Reads what `build_features` wrote."""
    with np.load(path) as file:
        splits = {
            name: SplitFeatures(file[f"{name}.visual"], file[f"{name}.audio"], file[f"{name}.class_index"])
            for name in SPLIT_NAMES
        }
        data = GzslData(
            name="demo",
            simulated=False,
            class_names=tuple(str(name) for name in file["class_names"]),
            text_visual=file["text_visual"],
            text_audio=file["text_audio"],
            splits=splits,
        )
        kinds: tuple[Kind, ...] = tuple(file["kinds"].tolist())
        paths = {name: tuple(str(item) for item in file[f"{name}.path"]) for name in SPLIT_NAMES}
    return DemoFeatures(data, kinds, paths)
