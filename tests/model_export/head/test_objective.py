"""The loss of a batch gives the same gradients every time, whatever its threads do."""

from collections.abc import Iterator

import pytest
import torch

from model_export.head.objective import rows_of


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


def test_rows_are_those_of_the_index() -> None:
    """The same values as indexing gives."""
    table, index = torch.arange(12.0).reshape(4, 3), torch.tensor([3, 0, 3])
    assert torch.equal(rows_of(table, index), table[index])
