"""Dropout: its rate, its mean, its independence and its seed."""

import pytest
import torch

from model_export.head.dropout import Dropout


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.99])
def test_as_many_entries_are_dropped_as_the_rate_says(rate: float) -> None:
    """Within five deviations of a binomial count; the others keep the mean."""
    torch.manual_seed(0)
    n = 1_000_003  # no multiple of four
    out = Dropout(rate)(torch.ones(n))
    deviation = (rate * (1 - rate) / n) ** 0.5
    assert abs(float((out == 0).double().mean()) - rate) < 5 * deviation
    assert float(out.double().mean()) == pytest.approx(1, abs=5 * deviation / (1 - rate))
    assert len(out.unique()) == 2


def test_neighbours_are_dropped_independently() -> None:
    """Four entries come from one random number; none of them says anything of another."""
    torch.manual_seed(1)
    dropped = (Dropout(0.5)(torch.ones(250_000, 4)) == 0).float()
    correlation = torch.corrcoef(dropped.T) - torch.eye(4)
    assert float(correlation.abs().max()) < 5 / 250_000**0.5


def test_a_seed_drops_the_same_entries_and_the_gradient_follows() -> None:
    """What was dropped has no gradient, the rest the same factor."""
    x = torch.ones(7, 9, requires_grad=True)
    outs = []
    for _ in range(2):
        torch.manual_seed(2)
        outs.append(Dropout(0.3)(x))
    assert torch.equal(*outs)
    (gradient,) = torch.autograd.grad(outs[0].sum(), x)
    assert torch.equal(gradient, outs[0].detach())


def test_nothing_is_dropped_when_not_training() -> None:
    """Or at rate zero."""
    x = torch.randn(5, 3)
    assert torch.equal(Dropout(0.5).eval()(x), x)
    assert torch.equal(Dropout(0.0)(x), x)
