"""What the encoders learn from: clips, recorded in bulk and kept as arrays, and captions of them."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from demo_world.captions import Captioner, Side
from demo_world.recording import ClipPlan, Studio, clip_rng, run_in_processes
from demo_world.world import World
from model_export.progress import Progress
from service.decode import decode_clip
from service.media import DecodeLimits, DecodeSpec

CaptionWriter = Callable[[Generator, int], str]
"""Writes a caption of the clip with an index."""

_RANDOM_STREAM = 1
_CHUNK = 200
_FPS = 2


@dataclass(frozen=True)
class EncoderCorpus:
    """Decoded clips; the shape and the sound of each are drawn independently.

    Attributes:
        frames: uint8 [n, n_frames, size, size, 3], RGB.
        waves: int16 [n, longest], mono at the audio encoder's rate; zeros after a clip's end.
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


def plan_encoder_clip(studio: Studio, seed: int, index: int) -> ClipPlan:
    """Plan a clip of the encoders' corpus."""
    rng = clip_rng(seed, _RANDOM_STREAM, index)
    shape, sound = rng.integers(len(studio.world.shapes)), rng.integers(len(studio.world.sounds))
    plan = studio.plan(rng, int(shape), int(sound))
    return replace(plan, format=replace(plan.format, fps=_FPS))


def caption_writer(world: World, seed: int, n_clips: int, side: Side) -> CaptionWriter:
    """Captions of the first clips of a corpus, of one side only."""
    studio, captioner = Studio(world), Captioner(world)
    plans = [plan_encoder_clip(studio, seed, index) for index in range(n_clips)]
    if side == "visual":
        return lambda rng, row: captioner.picture(rng, plans[row].scene)
    return lambda rng, row: captioner.sound(rng, plans[row].soundscape)


@dataclass(frozen=True)
class _EncoderTask:
    world: World
    seed: int
    indices: range
    spec: DecodeSpec


def record_encoder_corpus(
    world: World, seed: int, n_train: int, n_val: int, spec: DecodeSpec, progress: Progress
) -> EncoderCorpus:
    """Record and decode the clips that the encoders are trained on; no file of them is kept.

    Args:
        world: What they show.
        seed: Of all clips.
        n_train: Clips to train on.
        n_val: Clips to report accuracy on.
        spec: What is decoded of each.
        progress: Called after each part.
    """
    n = n_train + n_val
    tasks = [_EncoderTask(world, seed, range(i, min(i + _CHUNK, n)), spec) for i in range(0, n, _CHUNK)]
    parts: list[EncoderCorpus] = []
    for part in run_in_processes(_record_part, tasks):
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
    """Write one .npy file per array, so that several processes can map them."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in _CORPUS_ARRAYS:
        np.save(folder / f"{name}.npy", getattr(corpus, name))
    np.save(folder / "n_train.npy", np.int64(corpus.n_train))


def load_corpus(folder: Path) -> EncoderCorpus:
    """Map the arrays of a saved corpus into memory."""
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
