"""Hyper-multiple: the maps of the Poincaré ball, the alignment, and that curvatures do not matter."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from model_export.data.gzsl_data import GzslData
from model_export.head.evaluation import evaluate
from model_export.head.head_config import PRESETS, HeadConfig
from model_export.head.methods.avca import Avca
from model_export.head.methods.hyper_multiple import HyperMultiple, alignment, cosines, logmap0, project
from model_export.head.methods.terms import negatives
from model_export.head.training import train
from tests.model_export.head.methods.test_avca import N_AUDIO, N_VISUAL, example_batch, n_parameters
from tests.model_export.head.methods.toy_run import served_and_torch_distances, toy_world

SMALL = PRESETS["hyper_multiple"].model_copy(
    update={"n_epochs": 2, "n_batches_per_epoch": 12, "batch_size": 24}
)


@pytest.fixture
def rows() -> tuple[Tensor, Tensor]:
    """Seven rows of lengths from 0.002 to 200, and curvatures from 0.0001 to 100, in float64."""
    draw = torch.Generator().manual_seed(0)
    lengths = 10.0 ** torch.arange(-3, 4)[:, None]
    points = lengths * torch.randn(7, 5, generator=draw, dtype=torch.float64)
    return points, 10.0 ** torch.tensor([[2.0], [-4], [0], [1], [-2], [-1], [-3]], dtype=torch.float64)


def plain_cosines(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Cosines between rows, without any map."""
    lengths = np.linalg.norm(x, axis=1)
    products: NDArray[np.float64] = x @ x.T
    return products / np.outer(lengths, lengths)


def networks() -> tuple[Avca, HyperMultiple]:
    """AVCA and Hyper-multiple, random weights from one seed, no dropout."""
    made = []
    for method, kind in (("avca", Avca), ("hyper_multiple", HyperMultiple)):
        config = HeadConfig.model_validate({"method": method, "embedding_dim": 8, "dropout": 0})
        torch.manual_seed(0)
        made.append(kind(config, N_VISUAL, N_AUDIO))
    avca, hyper = made
    assert isinstance(hyper, HyperMultiple)
    return avca, hyper


def test_parameters_at_published_features() -> None:
    """AVCA's 2,117,168, and 600 > 2 with biases."""
    network = HyperMultiple(PRESETS["hyper_multiple"], n_visual=512, n_audio=1024)
    assert n_parameters(network) == 2_117_168 + 600 * 2 + 2 == 2_118_370


def test_projected_rows_lie_inside_the_ball(rows: tuple[Tensor, Tensor]) -> None:
    """By hand: at c = 0.25 the radius is 2, and 5 becomes 1.998 in the same direction; 1 stays."""
    found = project(torch.tensor([[3.0, 4.0], [0.6, 0.8]]), torch.tensor([[0.25], [0.25]]))
    torch.testing.assert_close(found, torch.tensor([[0.6 * 1.998, 0.8 * 1.998], [0.6, 0.8]]))
    points, curvature = rows
    assert (torch.sqrt(curvature) * project(points, curvature).norm(dim=1, keepdim=True) < 1).all()


def test_logmap0_is_the_inverse_of_the_exponential_map(rows: tuple[Tensor, Tensor]) -> None:
    """exp_0(v) = tanh(sqrt(c) |v|) v / (sqrt(c) |v|), in numpy."""
    points = project(*rows)
    tangent, root = logmap0(points, rows[1]).numpy(), np.sqrt(rows[1].numpy())
    reach = root * np.linalg.norm(tangent, axis=1, keepdims=True)
    np.testing.assert_allclose(np.tanh(reach) / reach * tangent, points.numpy(), rtol=1e-9)


def test_curvatures_do_not_change_cosines(rows: tuple[Tensor, Tensor]) -> None:
    """Far inside and far outside of the ball, a curvature for each row: the cosines are the plain ones."""
    points, curvature = rows
    changed = logmap0(project(points, curvature), curvature)
    assert not torch.allclose(changed, points, rtol=0.1)
    np.testing.assert_allclose(cosines(points, curvature).numpy(), plain_cosines(points.numpy()), atol=1e-12)


def test_curvatures_get_no_gradient(rows: tuple[Tensor, Tensor]) -> None:
    """That of the alignment is rounding, while that of the rows is not."""
    points, curvature = (tensor.clone().requires_grad_() for tensor in rows)
    loss = alignment(points, points.detach().flip(0), curvature)
    of_points, of_curvature = torch.autograd.grad(loss, (points, curvature))
    assert (rows[1] * of_curvature).abs().max() < 1e-14
    assert (points * of_points).abs().max() > 1e-3


def test_alignment_by_hand() -> None:
    """Video at right angles where audio has cosine 0.6: 2 x 0.36 / 4, for each of three curvatures."""
    visual, audio = torch.tensor([[2.0, 0.0], [0.0, 3.0]]), torch.tensor([[1.0, 0.0], [6.0, 8.0]])
    curvatures = torch.tensor([[0.1, 1.0, 7.0], [0.2, 0.3, 0.001]])
    assert alignment(visual, audio, curvatures).item() == pytest.approx(0.18, abs=1e-6)
    assert alignment(visual, visual, curvatures).item() == 0


def test_curvatures_of_a_clip_are_positive_and_at_most_a_hundredth() -> None:
    """0.01 sigmoid of a linear map of both tokens, visual first; by numpy."""
    network = networks()[1]
    visual, audio = 30 * torch.randn(5, 300), 30 * torch.randn(5, 300)
    found = network.curvatures(visual, audio).detach()
    weight, bias = (p.detach().numpy() for p in network.curvature.parameters())
    linear = np.concatenate([visual.numpy(), audio.numpy()], axis=1) @ weight.T + bias
    np.testing.assert_allclose(found.numpy(), 0.01 / (1 + np.exp(-linear)), rtol=1e-4)
    assert found.shape == (5, 2)


def test_the_loss_is_avcas_and_a_thousandth_of_two_alignments() -> None:
    """Of the batch and of its negatives, from the tokens before attention; all else equals AVCA's."""
    batch, terms, tokens = example_batch(), [], {}
    avca, hyper = networks()
    for name in ("visual", "audio"):
        encoder = getattr(hyper, f"{name}_encoder")
        encoder.register_forward_hook(lambda _m, _i, phi, name=name: tokens.update({name: phi.detach()}))
    for network in (avca, hyper):
        torch.manual_seed(3)
        terms.append({name: term.item() for name, term in network.loss_terms(batch).items()})
    found = terms[1].pop("alignment")
    assert terms[0] == pytest.approx(terms[1], rel=1e-6)
    torch.manual_seed(3)
    other = negatives(batch.target).numpy()
    v, a = (plain_cosines(tokens[name].double().numpy()) for name in ("visual", "audio"))
    of_negatives = ((v - a) ** 2)[np.ix_(other, other)]
    assert found == pytest.approx(1e-3 * (((v - a) ** 2).mean() + of_negatives.mean()), rel=1e-4)


def test_a_token_without_length_is_harmless() -> None:
    """It has no direction: cosine 0 with every row, and finite gradients."""
    visual = torch.tensor([[0.0, 0.0], [0.0, 3.0]], requires_grad=True)
    loss = alignment(torch.relu(visual), torch.eye(2), torch.full((2, 2), 0.01))
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.item() == pytest.approx(0.25)
    assert visual.grad is not None
    assert torch.isfinite(visual.grad).all()


def test_it_learns_the_small_world(small_data: GzslData, tmp_path: Path) -> None:
    """Finite losses that fall, and twice as many right as by chance among twelve classes."""
    run = train(small_data, SMALL, tmp_path / "run", n_threads=1)
    records = [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]
    assert "alignment" in records[0]["losses"]
    first, last = (sum(record["losses"].values()) for record in records[:2])
    assert np.isfinite(last)
    assert last < first
    assert evaluate(run, small_data).uncalibrated.seen > 2 * 100 / 12


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # the exporter warns about its own internals
def test_served_distances_are_torchs(toy_bundle: Path, tmp_path: Path) -> None:
    """Both halves as graphs in a bundle, clips with one track included."""
    run = train(toy_world(), SMALL, tmp_path / "run", n_threads=1)
    served, expected = served_and_torch_distances(run, toy_bundle, tmp_path / "mine")
    np.testing.assert_allclose(served, expected, rtol=1e-4, atol=1e-4)
    assert (served.argsort(axis=1) == expected.argsort(axis=1)).all()
