"""Building the demo world's encoders: record clips, train both sides, save the directory."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor

from model_export.demo.captions import Captioner, sample_captions
from model_export.demo.clips import Studio
from model_export.demo.corpus import (
    EncoderCorpus,
    load_corpus,
    plan_encoder_clip,
    record_encoder_corpus,
    run_in_processes,
    save_corpus,
)
from model_export.demo.encoders.augment import Batches, Pictures, Sounds
from model_export.demo.encoders.subwords import DroppedMerges, train_tokenizer
from model_export.demo.encoders.towers import AudioTower, TextTower, TinyConfig, VisualTower
from model_export.demo.encoders.trained import (
    TOKENIZER_FILE,
    TinyEncoders,
    encode_prompts,
    load_encoders,
    save_config,
    save_tower,
)
from model_export.demo.encoders.training import CaptionWriter, Recipe, train_clip_tower, train_text_tower
from model_export.demo.world import AUDIO_TEMPLATES, VISUAL_TEMPLATES, World
from service.media import DecodeSpec

Side = Literal["visual", "audio"]
Progress = Callable[[str], None]

SIDES: tuple[Side, ...] = ("visual", "audio")


@dataclass(frozen=True)
class EncoderPlan:
    """How the encoders are built.

    Attributes:
        world: What their clips show.
        config: Sizes of the towers.
        n_train: Clips to train on.
        n_val: Clips to report accuracy on.
        n_frames: Frames kept of each.
        max_s: Seconds of sound kept of each.
        recipes: Training of each side.
        n_workers: Processes; each uses one core.
    """

    world: World = field(default_factory=World)
    config: TinyConfig = field(default_factory=TinyConfig)
    n_train: int = 9000
    n_val: int = 800
    n_frames: int = 4
    max_s: float = 3.4
    recipes: dict[Side, Recipe] = field(
        default_factory=lambda: {
            "visual": Recipe(clip_steps=2600),
            "audio": Recipe(clip_steps=1200, clip_batch=64),
        }
    )
    n_workers: int = 2


def build_encoders(
    work: Path, seed: int, progress: Progress, plan: EncoderPlan | None = None
) -> TinyEncoders:
    """Records clips, trains the four towers and saves them under `work / "encoders"`.

    Args:
        work: A folder for everything that is made on the way, too.
        seed: Decides every clip, caption, initial weight and batch.
        progress: Told what is going on, a line at a time.
        plan: Sizes and durations; the full build when left out.
    """
    plan = plan or EncoderPlan()
    folder = work / "encoders"
    folder.mkdir(parents=True, exist_ok=True)
    spec = DecodeSpec(plan.n_frames, plan.config.image_size_px, plan.config.sample_rate_hz, plan.max_s)
    corpus = record_encoder_corpus(
        plan.world, seed, plan.n_train, plan.n_val, spec, n_workers=plan.n_workers, progress=progress
    )
    save_corpus(corpus, work / "encoder_corpus")
    del corpus
    captions = sample_captions(plan.world, np.random.default_rng([seed, 3]), 20_000)
    train_tokenizer(captions, plan.config.vocabulary_size).save(str(folder / TOKENIZER_FILE))
    scales = train_sides(work, seed, progress, plan)
    save_config(folder, plan.config, scales)
    return load_encoders(folder)


def train_sides(work: Path, seed: int, progress: Progress, plan: EncoderPlan) -> dict[str, float]:
    """Trains both sides at the same time on the saved corpus; returns their logit scales."""
    tasks = [_SideTask(side, work, seed, plan) for side in SIDES]
    scales: dict[str, float] = {}
    for side, result in zip(SIDES, run_in_processes(_train_side, tasks, min(plan.n_workers, 2)), strict=True):
        scales[side] = result.logit_scale
        for line in result.log:
            progress(f"{side}: {line}")
    return scales


@dataclass(frozen=True)
class _SideTask:
    side: Side
    work: Path
    seed: int
    plan: EncoderPlan


@dataclass(frozen=True)
class _SideResult:
    logit_scale: float
    log: list[str]


def _train_side(task: _SideTask) -> _SideResult:
    """Trains the clip tower and the text tower of one side. Runs in a process of its own, on one core."""
    torch.set_num_threads(1)
    torch.manual_seed(task.seed)
    plan, folder, side = task.plan, task.work / "encoders", task.side
    rng = np.random.default_rng([task.seed, 4, SIDES.index(side)])
    corpus = load_corpus(task.work / "encoder_corpus")
    log = _Log()
    tower = VisualTower(plan.config) if side == "visual" else AudioTower(plan.config)
    tower.body.to(memory_format=torch.channels_last)
    batches: Batches = (
        Pictures(corpus, tower) if isinstance(tower, VisualTower) else Sounds(corpus, tower, plan.config)
    )
    n_concepts = len(plan.world.shapes if side == "visual" else plan.world.sounds)
    train_clip_tower(tower.body, batches, corpus.n_train, n_concepts, plan.recipes[side], rng, log)
    save_tower(tower, folder / f"{side}.safetensors")
    features = clip_features(batches, len(corpus.shapes))
    tokenizer = Tokenizer.from_file(str(folder / TOKENIZER_FILE))
    text = TextTower(plan.config)
    scale = train_text_tower(
        text,
        features[: corpus.n_train],
        caption_writer(plan.world, task.seed, corpus, side),
        dropped_merges(tokenizer),
        plan.recipes[side],
        rng,
        log,
    )
    save_tower(text, folder / f"text_{side}.safetensors")
    new = slice(corpus.n_train, None)
    log(_accuracy(plan.world, side, text, tokenizer, features[new], batches.labels[new]))
    return _SideResult(scale, log.lines)


class _Log:
    """Collects lines with the seconds since it was made."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._start = time.monotonic()

    def __call__(self, line: str) -> None:
        self.lines.append(f"{time.monotonic() - self._start:.0f} s: {line}")


@torch.no_grad()
def clip_features(batches: Batches, n_clips: int, batch: int = 50) -> Tensor:
    """Features of every clip of a corpus, float32 [n_clips, dim]."""
    return torch.cat([batches.plain(slice(i, min(i + batch, n_clips))) for i in range(0, n_clips, batch)])


def caption_writer(world: World, seed: int, corpus: EncoderCorpus, side: Side) -> CaptionWriter:
    """Captions of the corpus's clips, of one side only."""
    studio, captioner = Studio(world), Captioner(world)
    plans = [plan_encoder_clip(studio, seed, index) for index in range(corpus.n_train)]
    if side == "visual":
        scenes = [plan.scene for plan in plans]
        return lambda rng, row: captioner.picture(rng, scenes[row])
    scapes = [plan.soundscape for plan in plans]
    return lambda rng, row: captioner.sound(rng, scapes[row])


def dropped_merges(tokenizer: Tokenizer, share: float = 0.15) -> DroppedMerges:
    """The tokenizer with BPE-dropout."""
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    return DroppedMerges(tokenizer, [(first, second) for first, second in merges], share)


def _accuracy(
    world: World, side: Side, text: TextTower, tokenizer: Tokenizer, features: Tensor, labels: Tensor
) -> str:
    """Zero-shot accuracy on the validation clips, for each of the three synonyms."""
    concepts, templates = (
        (world.shapes, VISUAL_TEMPLATES) if side == "visual" else (world.sounds, AUDIO_TEMPLATES)
    )
    shares = []
    for synonym in range(3):
        words = encode_prompts(text, tokenizer, [concept.words[synonym] for concept in concepts], templates)
        nearest = (features @ torch.from_numpy(words).T).argmax(dim=1)
        shares.append(f"{(nearest == labels).float().mean().item():.3f}")
    return f"zero-shot accuracy on validation clips, by synonym: {', '.join(shares)}"
