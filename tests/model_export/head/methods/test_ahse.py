"""Each loss term against an independent oracle, and gradients that repeat exactly."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from scipy.special import rel_entr, softmax
from torch import Tensor

from model_export.head.methods import ahse as losses
from model_export.head.methods.clip_clap import cross_entropy, reconstruction, regression
from model_export.head.methods.terms import rows_of


@pytest.fixture
def rows() -> tuple[Tensor, Tensor]:
    """Seven clips and their prototypes, in five dimensions."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(7, 5, generator=generator), torch.randn(7, 5, generator=generator)


def test_cross_entropy_is_minus_log_of_the_right_softmax_entry(rows: tuple[Tensor, Tensor]) -> None:
    """Against scipy's softmax of the scaled dot products."""
    av, text = rows
    target = torch.tensor([0, 1, 2, 3, 4, 0, 1])
    p = softmax(0.125 * av.numpy() @ text[:5].numpy().T, axis=1)
    expected = -np.log(p[np.arange(7), target.numpy()]).mean()
    assert cross_entropy(av, text[:5], target, 0.125).item() == pytest.approx(expected, rel=1e-5)


def test_regression_is_the_mean_over_all_entries() -> None:
    """By hand: differences 1, 0, 2, 0 give 5 / 4."""
    av = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    text = torch.tensor([[0.0, 2.0], [1.0, 4.0]])
    assert regression(av, text).item() == pytest.approx(1.25)


def test_reconstruction_sums_both_decoders_and_has_a_gradient_in_the_target() -> None:
    """By hand: 1 + 4; and the encoder's output gets a gradient."""
    hidden = torch.zeros(2, 3, requires_grad=True)
    loss = reconstruction(hidden, torch.ones(2, 3), torch.full((2, 3), 2.0))
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.item() == pytest.approx(5.0)
    assert hidden.grad is not None
    assert hidden.grad.abs().sum() > 0


def test_semantic_alignment_compares_second_moments_of_dimensions(rows: tuple[Tensor, Tensor]) -> None:
    """Eq. 2 against numpy's einsum, entry by entry."""
    av, text = (t.numpy() for t in rows)
    s_av, s_text = (np.einsum("ni,nj->ij", z, z) / len(z) for z in (av, text))
    assert s_av.shape == (5, 5)
    assert losses.semantic_alignment(*rows).item() == pytest.approx(np.mean((s_text - s_av) ** 2), rel=1e-5)


def test_class_alignment_is_the_kl_divergence_from_text_to_av(rows: tuple[Tensor, Tensor]) -> None:
    """Eq. 3 against scipy's relative entropy and torch.distributions; the other direction differs."""
    av, text = rows
    p, q = softmax(text.numpy(), axis=1), softmax(av.numpy(), axis=1)
    forward, backward = rel_entr(p, q).sum(1).mean(), rel_entr(q, p).sum(1).mean()
    kl = torch.distributions.kl_divergence(
        torch.distributions.Categorical(logits=text), torch.distributions.Categorical(logits=av)
    )
    assert losses.class_alignment(av, text).item() == pytest.approx(forward, rel=1e-5)
    assert losses.class_alignment(av, text).item() == pytest.approx(kl.mean().item(), rel=1e-5)
    assert forward != pytest.approx(backward, rel=1e-2)


def test_batch_alignment_compares_similarities_of_clips(rows: tuple[Tensor, Tensor]) -> None:
    """Eq. 4 against numpy's einsum, entry by entry."""
    av, text = (t.numpy() for t in rows)
    b_av, b_text = (np.einsum("id,jd->ij", z, z) / z.shape[1] for z in (av, text))
    assert b_av.shape == (7, 7)
    assert losses.batch_alignment(*rows).item() == pytest.approx(np.mean((b_text - b_av) ** 2), rel=1e-5)


@pytest.mark.parametrize("term", [losses.semantic_alignment, losses.class_alignment, losses.batch_alignment])
def test_alignment_is_zero_only_for_equal_structure(term: object, rows: tuple[Tensor, Tensor]) -> None:
    """No term asks for anything once both sides agree."""
    assert callable(term)
    assert term(rows[0], rows[0]).item() == pytest.approx(0.0, abs=1e-6)
    assert term(rows[0], rows[1]).item() > 1e-3


def test_text_geometry_compares_cosines() -> None:
    """By hand: prototypes at right angles where the raw texts have cosine 0.6."""
    prototypes = torch.tensor([[2.0, 0.0], [0.0, 3.0]])
    raw = torch.tensor([[1.0, 0.6], [0.6, 1.0]])
    assert losses.text_geometry(prototypes, raw).item() == pytest.approx(2 * 0.36 / 4)


def test_distillation_is_zero_where_head_and_raw_features_agree() -> None:
    """KL(raw || head): 0 for equal distributions, log 2 for a sure teacher and an undecided head."""
    logits = torch.tensor([[0.3, -1.0, 2.0]])
    assert losses.distillation(logits, torch.softmax(logits, dim=1)).item() == pytest.approx(0, abs=1e-6)
    undecided, sure = torch.zeros(1, 2), torch.tensor([[1.0, 0.0]])
    assert losses.distillation(undecided, sure).item() == pytest.approx(math.log(2), rel=1e-5)


@pytest.fixture
def _two_threads() -> Iterator[None]:
    """As many as a training run has at least."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("_two_threads")
def test_gradients_of_repeated_rows_add_up_in_one_order() -> None:
    """Many clips of few classes: their gradients meet in the same rows, from several threads."""
    draw = torch.Generator().manual_seed(0)
    table = torch.randn(5, 512, generator=draw, requires_grad=True)
    index = torch.randint(5, (256,), generator=draw)
    weights = torch.randn(256, 512, generator=draw) * 10 ** torch.randn(256, 1, generator=draw)
    gradients = [torch.autograd.grad((rows_of(table, index) * weights).sum(), table)[0] for _ in range(50)]
    assert all(torch.equal(gradient, gradients[0]) for gradient in gradients)
    expected = torch.zeros(5, 512, dtype=torch.float64).index_add(0, index, weights.double())
    torch.testing.assert_close(gradients[0].double(), expected, rtol=1e-4, atol=1e-3)


def test_rows_of_gives_what_indexing_gives() -> None:
    """The same values as indexing gives."""
    table, index = torch.arange(12.0).reshape(4, 3), torch.tensor([3, 0, 3])
    assert torch.equal(rows_of(table, index), table[index])
