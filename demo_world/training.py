"""Train the encoders: record clips, teach a clip tower its concepts, then a text tower captions of the clips.

Learning pictures from captions alone finds colours long before shapes at this size, so the clip tower starts
from labels; the text tower then learns by the contrastive loss of CLIP, with its learned logit scale.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.random import Generator
from tokenizers import Tokenizer
from torch import Tensor, nn

from demo_world.augment import Batches, Pictures, Rows, Sounds
from demo_world.captions import DroppedMerges, Side, encode, pad, sample_captions, train_tokenizer
from demo_world.corpus import (
    CaptionWriter,
    caption_writer,
    load_corpus,
    record_encoder_corpus,
    save_corpus,
)
from demo_world.encoders import (
    TEMPLATES,
    TOKENIZER_FILE,
    EncoderSizes,
    TextTower,
    load_encoders,
    save_sizes,
    save_tower,
)
from demo_world.recording import run_in_processes
from demo_world.world import World
from model_export.encoders.custom import CustomBundle
from model_export.progress import Progress
from service.labels.label import fill
from service.media import DecodeSpec

SIDES: tuple[Side, ...] = ("visual", "audio")
_CORPUS_FOLDER, _ENCODERS_FOLDER = "encoder_corpus", "encoders"


@dataclass(frozen=True)
class Recipe:
    """How long and how fast the towers learn.

    Attributes:
        clip_steps: Batches of the clip tower.
        clip_batch: Clips in each.
        clip_lr: Its highest learning rate.
        text_steps: Batches of the text tower.
        text_batch: Clips and captions in each.
        text_lr: Its highest learning rate.
        weight_decay: Of both.
        label_smoothing: Of the clip tower's cross entropy.
        scale: Factor on its cosines.
    """

    clip_steps: int = 1500
    clip_batch: int = 128
    clip_lr: float = 3e-3
    text_steps: int = 600
    text_batch: int = 256
    text_lr: float = 1.5e-3
    weight_decay: float = 0.02
    label_smoothing: float = 0.05
    scale: float = 12.0


@dataclass(frozen=True)
class EncoderPlan:
    """How the encoders are trained.

    Attributes:
        world: What their clips show.
        sizes: Of the towers.
        n_train: Clips to train on.
        n_val: Clips to report accuracy on.
        n_frames: Frames kept of each.
        max_s: Seconds of sound kept of each.
        recipes: Training of each side.
    """

    world: World = field(default_factory=World)
    sizes: EncoderSizes = field(default_factory=EncoderSizes)
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


def train_encoders(
    work: Path, seed: int, progress: Progress, plan: EncoderPlan | None = None
) -> CustomBundle:
    """Record clips, train the four towers and save them under `work / "encoders"`.

    Args:
        work: A folder for everything that is made on the way, too.
        seed: Decides every clip, caption, initial weight and batch.
        progress: Called with one line of what was done.
        plan: Sizes and durations; the full training when left out.
    """
    plan = plan or EncoderPlan()
    folder = work / _ENCODERS_FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    spec = DecodeSpec(plan.n_frames, plan.sizes.image_size_px, plan.sizes.sample_rate_hz, plan.max_s)
    corpus = record_encoder_corpus(plan.world, seed, plan.n_train, plan.n_val, spec, progress)
    save_corpus(corpus, work / _CORPUS_FOLDER)
    del corpus  # hundreds of megabytes, which each side maps from its files
    captions = sample_captions(plan.world, np.random.default_rng([seed, 3]), 20_000)
    train_tokenizer(captions, plan.sizes.vocabulary_size).save(str(folder / TOKENIZER_FILE))
    tasks = [_SideTask(side, work, seed, plan) for side in SIDES]
    scales: dict[Side, float] = {}
    for side, result in zip(SIDES, run_in_processes(_train_side, tasks), strict=True):
        scales[side] = result.logit_scale
        for line in result.log:
            progress(f"{side}: {line}")
    save_sizes(folder, plan.sizes, scales)
    return load_encoders(folder)


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
    """Train the clip tower and the text tower of one side. Runs in a process of its own, on one core."""
    torch.set_num_threads(1)
    torch.manual_seed(task.seed)
    plan, folder, side = task.plan, task.work / _ENCODERS_FOLDER, task.side
    recipe, rng = plan.recipes[side], np.random.default_rng([task.seed, 4, SIDES.index(side)])
    corpus = load_corpus(task.work / _CORPUS_FOLDER)
    started, lines = time.monotonic(), list[str]()

    def log(line: str) -> None:
        lines.append(f"{time.monotonic() - started:.0f} s: {line}")

    batches: Batches = Pictures(corpus, plan.sizes) if side == "visual" else Sounds(corpus, plan.sizes)
    n_concepts = len(plan.world.shapes if side == "visual" else plan.world.sounds)
    train_clip_tower(batches, corpus.n_train, n_concepts, plan.sizes.dim, recipe, rng, log)
    save_tower(batches.tower, folder / f"{side}.safetensors")
    features = _clip_features(batches, len(corpus.shapes))
    tokenizer = Tokenizer.from_file(str(folder / TOKENIZER_FILE))
    text = TextTower(plan.sizes)
    write_caption = caption_writer(plan.world, task.seed, corpus.n_train, side)
    known, tokens = features[: corpus.n_train], DroppedMerges(tokenizer)
    scale = train_text_tower(text, known, write_caption, tokens, recipe, rng, log)
    save_tower(text, folder / f"text_{side}.safetensors")
    new = slice(corpus.n_train, None)
    log(_accuracy(plan.world, side, text, tokenizer, features[new], batches.labels[new]))
    return _SideResult(scale, lines)


@torch.no_grad()
def _clip_features(batches: Batches, n_clips: int, batch: int = 50) -> Tensor:
    """Features of every clip of a corpus, float32 [n_clips, dim]."""
    return torch.cat([batches.plain(slice(i, min(i + batch, n_clips))) for i in range(0, n_clips, batch)])


@torch.no_grad()
def _accuracy(
    world: World, side: Side, text: TextTower, tokenizer: Tokenizer, features: Tensor, labels: Tensor
) -> str:
    """Zero-shot accuracy on the validation clips, for each of the three synonyms of every concept."""
    concepts, templates = world.shapes if side == "visual" else world.sounds, TEMPLATES[side]
    shares = []
    for synonym in range(3):
        names = [concept.words[synonym] for concept in concepts]
        prompts = [fill(template, name) for name in names for template in templates]
        rows = text(torch.from_numpy(encode(tokenizer, prompts, text.places.shape[0])))
        words = F.normalize(rows.unflatten(0, (len(names), len(templates))).mean(dim=1), dim=1)
        nearest = (features @ words.T).argmax(dim=1)
        shares.append(f"{(nearest == labels).float().mean().item():.3f}")
    return f"zero-shot accuracy on validation clips, by synonym: {', '.join(shares)}"


def train_clip_tower(
    batches: Batches,
    n_train: int,
    n_concepts: int,
    dim: int,
    recipe: Recipe,
    rng: Generator,
    progress: Progress,
) -> None:
    """Train the body of a clip tower to tell the concepts of its side apart.

    Args:
        batches: The tower, and examples for it.
        n_train: Clips to train on: the first of the corpus.
        n_concepts: Shapes or sounds that there are.
        dim: Length of the tower's features.
        recipe: Steps and rates.
        rng: Source of batches and augmentation.
        progress: Called every hundredth step.
    """
    body = batches.body.to(memory_format=torch.channels_last)
    anchors = nn.Parameter(F.normalize(torch.randn(n_concepts, dim), dim=1))
    optimiser, schedule = _optimiser([*body.parameters(), anchors], recipe.clip_lr, recipe.clip_steps, recipe)
    body.train()
    for step, rows in enumerate(_batches(rng, n_train, recipe.clip_batch, recipe.clip_steps)):
        examples = batches.draw(rng, rows).contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16, enabled=_has_bfloat16()):
            features = F.normalize(body(examples), dim=1)
        logits = recipe.scale * features.float() @ F.normalize(anchors, dim=1).T
        labels = batches.labels[rows]
        loss = F.cross_entropy(logits, labels, label_smoothing=recipe.label_smoothing)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]  # torch
        optimiser.step()
        schedule.step()
        if step % 100 == 0 or step == recipe.clip_steps - 1:
            right = (logits.argmax(dim=1) == labels).float().mean().item()
            progress(f"clip step {step}: loss {loss.item():.3f}, batch accuracy {right:.3f}")
    body.eval()


def train_text_tower(
    tower: TextTower,
    features: Tensor,
    write_caption: CaptionWriter,
    tokens: DroppedMerges,
    recipe: Recipe,
    rng: Generator,
    progress: Progress,
) -> float:
    """Train a text tower contrastively on frozen clip features.

    Args:
        tower: The text tower.
        features: float32 [n, dim], unit length, of the training clips.
        write_caption: Gives a caption of the clip with an index.
        tokens: Turns captions into tokens.
        recipe: Steps and rates.
        rng: Source of batches and captions.
        progress: Called every hundredth step.

    Returns:
        The learned logit scale.
    """
    log_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))
    weights = [*tower.parameters(), log_scale]
    optimiser, schedule = _optimiser(weights, recipe.text_lr, recipe.text_steps, recipe)
    context = tower.places.shape[0]
    tower.train()
    for step, rows in enumerate(_batches(rng, len(features), recipe.text_batch, recipe.text_steps)):
        captions = [write_caption(rng, int(row)) for row in rows]
        ids = [tokens.encode(rng, caption) for caption in captions]
        padded = torch.from_numpy(pad(ids, min(max(map(len, ids)), context)))
        logits = log_scale.exp().clamp(max=100) * features[rows] @ tower(padded).T
        loss = _clip_loss(logits)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]  # torch
        optimiser.step()
        schedule.step()
        if step % 100 == 0 or step == recipe.text_steps - 1:
            progress(f"text step {step}: loss {loss.item():.3f}, scale {log_scale.exp().item():.1f}")
    tower.eval()
    return float(log_scale.exp().clamp(max=100).item())


def _has_bfloat16() -> bool:
    """Whether this processor multiplies bfloat16 itself, which halves the time of a step."""
    supported: bool = torch.cpu._is_avx512_bf16_supported()
    return supported


def _clip_loss(logits: Tensor) -> Tensor:
    """Symmetric cross entropy of [n, n] logits whose diagonal holds the pairs (Radford et al., 2021)."""
    own = torch.arange(len(logits))
    return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2


def _batches(rng: Generator, n: int, size: int, steps: int) -> list[Rows]:
    """Rows of each batch: all clips in a random order, then all in another."""
    order = np.concatenate([rng.permutation(n) for _ in range(-(-size * steps // n))])
    return [order[i * size : (i + 1) * size] for i in range(steps)]


def _optimiser(
    parameters: Sequence[nn.Parameter], lr: float, steps: int, recipe: Recipe
) -> tuple[torch.optim.AdamW, torch.optim.lr_scheduler.OneCycleLR]:
    optimiser = torch.optim.AdamW(parameters, lr=lr, weight_decay=recipe.weight_decay)
    return optimiser, torch.optim.lr_scheduler.OneCycleLR(optimiser, lr, total_steps=steps, pct_start=0.15)
