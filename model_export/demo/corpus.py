"""Corpora: clips recorded in bulk by several processes, every clip from a seed of its own."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from model_export.data.gzsl_data import SPLIT_NAMES, SplitName
from model_export.demo.clips import ClipPlan, Studio
from model_export.demo.world import World
from service.decode import decode_clip
from service.media import DecodeLimits, DecodeSpec

Progress = Callable[[str], None]
S = TypeVar("S")
T = TypeVar("T")

_ENCODER_STREAM, _HEAD_STREAM = 1, 2
_CHUNK = 200
_ENCODER_FPS = 2


@dataclass(frozen=True)
class EncoderCorpus:
    """Decoded clips that the towers are trained on; shape and sound are drawn independently.

    Attributes:
        frames: uint8 [n, n_frames, size, size, 3], RGB.
        waves: int16 [n, longest], mono at the towers' rate; zeros after a clip's end.
        lengths: int64 [n], samples of each waveform.
        shapes: int64 [n], index of each clip's shape.
        sounds: int64 [n], index of each clip's sound.
        n_train: The first clips are for training, the others for validation.
    """

    frames: NDArray[np.uint8]
    waves: NDArray[np.int16]
    lengths: NDArray[np.int64]
    shapes: NDArray[np.int64]
    sounds: NDArray[np.int64]
    n_train: int


@dataclass(frozen=True)
class HeadClip:
    """One clip of the head's data."""

    path: Path
    class_index: int
    split: SplitName
    number: int


def clip_rng(seed: int, stream: int, *numbers: int) -> Generator:
    """The random numbers of one clip, independent of every other clip's."""
    return np.random.default_rng([seed, stream, *numbers])


def plan_encoder_clip(studio: Studio, seed: int, index: int) -> ClipPlan:
    """Plans a clip of the encoders' corpus."""
    rng = clip_rng(seed, _ENCODER_STREAM, index)
    shape, sound = rng.integers(len(studio.world.shapes)), rng.integers(len(studio.world.sounds))
    plan = studio.plan(rng, int(shape), int(sound))
    return replace(plan, format=replace(plan.format, fps=_ENCODER_FPS))


@dataclass(frozen=True)
class _EncoderTask:
    world: World
    seed: int
    indices: range
    spec: DecodeSpec


def record_encoder_corpus(
    world: World, seed: int, n_train: int, n_val: int, spec: DecodeSpec, *, n_workers: int, progress: Progress
) -> EncoderCorpus:
    """Records, decodes and forgets the clips that the towers are trained on."""
    n = n_train + n_val
    tasks = [_EncoderTask(world, seed, range(i, min(i + _CHUNK, n)), spec) for i in range(0, n, _CHUNK)]
    parts: list[EncoderCorpus] = []
    for part in run_in_processes(_record_part, tasks, n_workers):
        parts.append(part)
        progress(f"encoder clips: {min(len(parts) * _CHUNK, n)} of {n}")
    return EncoderCorpus(
        frames=np.concatenate([part.frames for part in parts]),
        waves=np.concatenate([part.waves for part in parts]),
        lengths=np.concatenate([part.lengths for part in parts]),
        shapes=np.concatenate([part.shapes for part in parts]),
        sounds=np.concatenate([part.sounds for part in parts]),
        n_train=n_train,
    )


_CORPUS_ARRAYS = ("frames", "waves", "lengths", "shapes", "sounds")


def save_corpus(corpus: EncoderCorpus, folder: Path) -> None:
    """Writes one .npy file per array, so that several processes can map them."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in _CORPUS_ARRAYS:
        np.save(folder / f"{name}.npy", getattr(corpus, name))
    np.save(folder / "n_train.npy", np.int64(corpus.n_train))


def load_corpus(folder: Path) -> EncoderCorpus:
    """Maps the arrays of a saved corpus into memory."""
    arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("frames", "waves")}
    arrays |= {name: np.load(folder / f"{name}.npy") for name in ("lengths", "shapes", "sounds")}
    return EncoderCorpus(**arrays, n_train=int(np.load(folder / "n_train.npy")))


def _record_part(task: _EncoderTask) -> EncoderCorpus:
    studio, spec, n = Studio(task.world), task.spec, len(task.indices)
    size, longest = spec.image_size_px, round(spec.max_audio_s * spec.sample_rate_hz)
    frames = np.zeros((n, spec.n_frames, size, size, 3), np.uint8)
    waves = np.zeros((n, longest), np.int16)
    lengths, labels = np.zeros(n, np.int64), np.zeros((2, n), np.int64)
    with TemporaryDirectory() as folder:
        for row, index in enumerate(task.indices):
            plan = plan_encoder_clip(studio, task.seed, index)
            path = Path(folder) / "clip.mp4"
            studio.record(plan, path)
            clip = decode_clip(path, spec, DecodeLimits())
            if clip.frames is None or clip.waveform is None:
                raise RuntimeError(f"clip {index} of the encoders' corpus lost a track")
            frames[row], lengths[row] = clip.frames, len(clip.waveform)
            waves[row, : len(clip.waveform)] = np.clip(clip.waveform, -1, 1) * 32767
            labels[:, row] = plan.scene.main.shape, plan.soundscape.sound
    return EncoderCorpus(frames, waves, lengths, labels[0], labels[1], n)


def list_head_clips(world: World, folder: Path) -> list[HeadClip]:
    """Every clip of the head's data; classes that are new in validation are tested as seen ones later."""
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


def record_clips(
    world: World, seed: int, clips: Sequence[HeadClip], *, n_workers: int, progress: Progress
) -> None:
    """Records clips of the head's data, each as its file; those that are there already are kept."""
    missing = [clip for clip in clips if not clip.path.is_file()]
    tasks = [_HeadTask(world, seed, tuple(missing[i : i + _CHUNK])) for i in range(0, len(missing), _CHUNK)]
    n_done = 0
    for n in run_in_processes(_record_clips, tasks, n_workers):
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
    """Plans a clip of the head's data."""
    spec = studio.world.classes[clip.class_index]
    split = SPLIT_NAMES.index(clip.split)
    rng = clip_rng(seed, _HEAD_STREAM, split, clip.class_index, clip.number)
    return studio.plan(rng, spec.shape, spec.sound)


def run_in_processes(work: Callable[[S], T], tasks: Sequence[S], n_workers: int) -> Iterator[T]:
    """Results of `work` on each task, in order, from `n_workers` fresh processes."""
    with ProcessPoolExecutor(n_workers, mp_context=get_context("spawn")) as pool:
        yield from pool.map(work, tasks)
