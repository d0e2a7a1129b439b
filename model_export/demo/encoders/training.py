"""Training the tiny towers: a clip tower on its concepts, then a text tower on captions of its features.

Learning pictures from captions alone finds colours long before shapes at this size, so the clip tower starts
from labels; the text tower then learns by the contrastive loss of CLIP, with its learned logit scale.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.random import Generator
from torch import Tensor, nn

from model_export.demo.encoders.augment import Batches, Rows
from model_export.demo.encoders.subwords import DroppedMerges, pad
from model_export.demo.encoders.towers import ConvBody, TextTower

Progress = Callable[[str], None]
CaptionWriter = Callable[[Generator, int], str]


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


def train_clip_tower(
    body: ConvBody,
    batches: Batches,
    n_train: int,
    n_concepts: int,
    recipe: Recipe,
    rng: Generator,
    progress: Progress,
) -> None:
    """Trains a clip tower to tell the concepts of its side apart."""
    anchors = nn.Parameter(F.normalize(torch.randn(n_concepts, body.project.out_features), dim=1))
    optimiser, schedule = _optimiser([*body.parameters(), anchors], recipe.clip_lr, recipe.clip_steps, recipe)
    body.train()
    for step, rows in enumerate(_batches(rng, n_train, recipe.clip_batch, recipe.clip_steps)):
        examples = batches.draw(rng, rows).contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16, enabled=has_bfloat16()):
            features = body(examples)
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
    subwords: DroppedMerges,
    recipe: Recipe,
    rng: Generator,
    progress: Progress,
) -> float:
    """Trains a text tower contrastively on frozen clip features.

    Args:
        tower: The text tower.
        features: float32 [n, dim], unit length, of the training clips.
        write_caption: Gives a caption of the clip with an index.
        subwords: Turns captions into tokens.
        recipe: Steps and rates.
        rng: Source of batches and captions.
        progress: Told of every hundredth step.

    Returns:
        The learned logit scale.
    """
    log_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))
    weights = [*tower.parameters(), log_scale]
    optimiser, schedule = _optimiser(weights, recipe.text_lr, recipe.text_steps, recipe)
    context = tower.places.shape[0]
    tower.train()
    for step, rows in enumerate(_batches(rng, len(features), recipe.text_batch, recipe.text_steps)):
        tokens = _tokens(subwords, [write_caption(rng, int(row)) for row in rows], rng, context)
        logits = log_scale.exp().clamp(max=100) * features[rows] @ tower(tokens).T
        loss = clip_loss(logits)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]  # torch
        optimiser.step()
        schedule.step()
        if step % 100 == 0 or step == recipe.text_steps - 1:
            progress(f"text step {step}: loss {loss.item():.3f}, scale {log_scale.exp().item():.1f}")
    tower.eval()
    return float(log_scale.exp().clamp(max=100).item())


def has_bfloat16() -> bool:
    """Whether this processor multiplies bfloat16 itself, which halves the time of a step."""
    supported: bool = torch.cpu._is_avx512_bf16_supported()
    return supported


def clip_loss(logits: Tensor) -> Tensor:
    """Symmetric cross entropy of [n, n] logits whose diagonal holds the pairs (Radford et al., 2021)."""
    own = torch.arange(len(logits))
    return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2


def _tokens(subwords: DroppedMerges, captions: Sequence[str], rng: Generator, context: int) -> Tensor:
    """Tokens of a batch, cut to its longest caption."""
    rows = [subwords.encode(rng, caption) for caption in captions]
    return torch.from_numpy(pad(rows, min(max(map(len, rows)), context)))


def _batches(rng: Generator, n: int, size: int, steps: int) -> list[Rows]:
    """Rows of each batch, going through all clips in a new order again and again."""
    order = np.concatenate([rng.permutation(n) for _ in range(-(-size * steps // n))])
    return [order[i * size : (i + 1) * size] for i in range(steps)]


def _optimiser(
    parameters: Sequence[nn.Parameter], lr: float, steps: int, recipe: Recipe
) -> tuple[torch.optim.AdamW, torch.optim.lr_scheduler.OneCycleLR]:
    optimiser = torch.optim.AdamW(parameters, lr=lr, weight_decay=recipe.weight_decay)
    return optimiser, torch.optim.lr_scheduler.OneCycleLR(optimiser, lr, total_steps=steps, pct_start=0.15)
