"""What several methods have in their losses. In all of it row i of a batch is a clip or its class."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def rows_of(table: Tensor, index: Tensor) -> Tensor:
    """Rows of a table [c, d] for int64 [n] indices: [n, d].

    The backward pass of `table[index]` adds up the gradients of a row in the order in which threads reach
    it; that of an embedding has one fixed order, so that a seed gives the same weights every time.
    """
    return F.embedding(index, table)


def negatives(target: Tensor) -> Tensor:
    """For each clip of a batch another one, of another class: int64 [n]; itself where there is none.

    Args:
        target: int64 [n], class of each clip.
    """
    is_other = target[:, None] != target[None, :]
    chance = torch.rand(is_other.shape).to(target.device) * is_other
    return torch.where(is_other.any(dim=1), chance.argmax(dim=1), torch.arange(len(target)).to(target.device))


def triplet(anchor: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
    """Mean over rows of max(0, |anchor - positive| - |anchor - negative| + 1), Euclidean, of [n, d] each."""
    return F.triplet_margin_loss(anchor, positive, negative, margin=1.0)
