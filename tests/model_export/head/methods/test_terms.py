"""What several methods share: negatives of another class, and triplets by hand."""

from __future__ import annotations

import pytest
import torch

from model_export.head.methods.terms import negatives, triplet


def test_negatives_are_drawn_from_all_clips_of_other_classes() -> None:
    """Over many draws each such clip comes up, and no other."""
    target = torch.tensor([0, 1, 1, 2])
    torch.manual_seed(0)
    drawn = torch.stack([negatives(target) for _ in range(100)])
    found = [set(drawn[:, clip].tolist()) for clip in range(4)]
    assert found == [{1, 2, 3}, {0, 3}, {0, 3}, {0, 1, 2}]


def test_a_clip_without_another_class_is_its_own_negative() -> None:
    """A batch may hold one class only."""
    assert negatives(torch.tensor([3, 3, 3])).tolist() == [0, 1, 2]


def test_triplet_by_hand() -> None:
    """5 - 3 + 1 = 3, and 0 where the negative is farther by more than 1: mean 1.5."""
    anchor, positive = torch.zeros(2, 2), torch.tensor([[3.0, 4.0], [3.0, 4.0]])
    negative = torch.tensor([[0.0, 3.0], [6.0, 8.0]])
    assert triplet(anchor, positive, negative).item() == pytest.approx(1.5, abs=1e-5)
