"""CJME: sizes, which track decides, losses by hand, and that it trains and is served."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.special import softmax
from scipy.stats import entropy
from torch import Tensor

from model_export.data.gzsl_data import GzslData
from model_export.head.evaluation import evaluate
from model_export.head.head_config import PRESETS, Follow, HeadConfig
from model_export.head.methods.cjme import Cjme, dominant_track, triplets, weighted_triplets
from model_export.head.training import train
from model_export.head.training_batches import Batch
from tests.model_export.head.methods.toy_run import served_and_torch_distances, toy_world

PRESET = PRESETS["cjme"]
QUICK = PRESET.model_copy(update={"n_epochs": 2, "n_batches_per_epoch": 20, "batch_size": 24})


def _network(config: HeadConfig = PRESET, n_visual: int = 6, n_audio: int = 10) -> Cjme:
    torch.manual_seed(0)
    return Cjme(config, n_visual, n_audio).eval()


def _batch(network: Cjme) -> Batch:
    """Four clips of two classes, of which the third class has none."""
    draw = torch.Generator().manual_seed(1)
    texts = network.text_input(torch.randn(3, 6, generator=draw), torch.randn(3, 10, generator=draw))
    target = torch.tensor([0, 1, 1, 0])
    visual, audio = torch.randn(4, 6, generator=draw), torch.randn(4, 10, generator=draw)
    return Batch(visual, audio, target, texts, torch.eye(3), None)


def test_parameters_at_published_dimensions() -> None:
    """512-d visual and 1024-d audio features, so 1536-d texts; weights, biases and batch norms by hand."""
    counts = {
        name: sum(p.numel() for p in child.parameters())
        for name, child in _network(PRESET, 512, 1024).named_children()
    }
    assert counts == {
        "visual_encoder": 512 * 1024 + 1024 + 2 * 1024 + 1024 * 64 + 64,
        "audio_encoder": 1024 * 1024 + 1024 + 2 * 1024 + 1024 * 64 + 64,
        "text_encoder": 1536 * 300 + 300 + 2 * 300 + 300 * 64 + 64,
        "attention": 2 * 1536 + 1536 + 1,
    }
    assert sum(counts.values()) == 2_195_781


def test_the_track_that_alpha_chooses_is_the_embedding() -> None:
    """Row by row; both tracks are chosen for some of the clips."""
    network = _network()
    visual, audio = torch.randn(40, 6), torch.randn(40, 10)
    theta_visual, theta_audio, alpha = network.embed_tracks(visual, audio)
    chosen = (alpha >= 0.5).squeeze(1)
    assert 0 < chosen.sum() < 40
    theta = network.embed_av(visual, audio)
    assert torch.equal(theta[chosen], theta_visual[chosen])
    assert torch.equal(theta[~chosen], theta_audio[~chosen])


def test_embeddings_are_64_wide_never_negative_and_depend_on_one_clip_alone() -> None:
    """The length of a feature plays no part, nor do the other clips of a batch."""
    network = _network()
    visual, audio = torch.randn(5, 6), torch.randn(5, 10)
    theta, text = network.embed_av(visual, audio), network.embed_text(visual, audio)
    assert theta.shape == text.shape == (5, 64)
    assert min(theta.min(), text.min()) >= 0
    torch.testing.assert_close(network.embed_av(7 * visual, 0.2 * audio), theta)
    torch.testing.assert_close(network.embed_av(visual[:1], audio[:1]), theta[:1])


def test_triplets_by_hand() -> None:
    """5 - 3 + 1, and a negative that is far enough."""
    anchor, positive = torch.zeros(2, 2), torch.tensor([[3.0, 4.0], [3.0, 4.0]])
    negative = torch.tensor([[0.0, 3.0], [6.0, 8.0]])
    assert triplets(anchor, positive, negative).tolist() == pytest.approx([3.0, 0.0], abs=1e-5)


@pytest.mark.parametrize(("follow", "expected"), [("paper", 6.0), ("code", 5.5)])
def test_weighted_triplets_by_hand(follow: Follow, expected: float) -> None:
    """Clip by clip (2 + 10) / 2; over all pairs (2 + 4 + 6 + 10) / 4."""
    alpha, visual, audio = torch.tensor([1.0, 0.0]), torch.tensor([2.0, 4.0]), torch.tensor([6.0, 10.0])
    assert weighted_triplets(alpha, visual, audio, follow).item() == pytest.approx(expected)


def test_code_takes_the_mean_of_all_products_of_weights_and_losses() -> None:
    """Against numpy's broadcast of [n, 1] by [n]."""
    random = np.random.default_rng(0)
    alpha, visual, audio = random.random((3, 7)).astype(np.float32)
    pairs = (1 - alpha[:, None]) * audio + alpha[:, None] * visual
    assert pairs.shape == (7, 7)
    weights, *losses = (torch.from_numpy(one) for one in (alpha, visual, audio))
    found = weighted_triplets(weights, losses[0], losses[1], "code")
    assert found.item() == pytest.approx(pairs.mean(), rel=1e-6)


def test_the_track_of_lower_entropy_is_dominant() -> None:
    """By hand: log 2 = 0.69 nats where both classes are alike, about 0 where one is far ahead."""
    sure, unsure = [9.0, 0.0], [1.0, 1.0]
    visual, audio = torch.tensor([sure, unsure, sure, unsure]), torch.tensor([unsure, sure, sure, unsure])
    assert dominant_track(visual, audio, torch.eye(2)).tolist() == [1.0, 0.0, 0.5, 0.5]


def test_a_track_is_dominant_from_a_tenth_of_a_nat_on() -> None:
    """Against scipy's entropies, on embeddings whose entropies differ by a little more and less."""
    random = np.random.default_rng(0)
    visual, audio, classes = (random.random((n, 4)).astype(np.float32) * 2 for n in (200, 200, 5))
    v, a = (entropy(softmax(track @ classes.T, axis=1), axis=1) for track in (visual, audio))
    expected = np.where(v - a > 0.1, 0.0, np.where(a - v > 0.1, 1.0, 0.5))
    assert {0.0, 0.5, 1.0} == set(expected)
    found = dominant_track(*(torch.from_numpy(one) for one in (visual, audio, classes)))
    np.testing.assert_array_equal(found.numpy(), expected)


@pytest.mark.parametrize("follow", ["paper", "code"])
def test_loss_terms_are_what_numpy_gives(follow: Follow) -> None:
    """From the embeddings alone; with two clips of two classes each is the other's negative."""
    network = _network(PRESET.model_copy(update={"follow": follow}))
    whole = _batch(network)
    batch = replace(whole, visual=whole.visual[:2], audio=whole.audio[:2], target=whole.target[:2])
    tracks = network.embed_tracks(batch.visual, batch.audio)
    visual, audio, alpha = (one.detach().numpy().astype(np.float64) for one in tracks)
    classes = network.embed_text_input(batch.text_input).detach().numpy().astype(np.float64)

    def hinge(track: np.ndarray) -> np.ndarray:
        near, far = (np.linalg.norm(classes[:2] - one, axis=1) for one in (track, track[::-1]))
        loss: np.ndarray = np.maximum(0, near - far + 1)
        return loss

    v, a = (entropy(softmax(track @ classes.T, axis=1), axis=1) for track in (visual, audio))
    goal = np.where(v - a > 0.1, 0.0, np.where(a - v > 0.1, 1.0, 0.5))
    weights = alpha if follow == "code" else alpha[:, 0]
    expected = {
        "triplets": np.mean((1 - weights) * hinge(audio) + weights * hinge(visual)),
        "agreement": np.mean((audio - visual) ** 2),
        "attention": np.mean((alpha[:, 0] - goal) ** 2),
    }
    found = {name: term.item() for name, term in network.loss_terms(batch).items()}
    assert found == pytest.approx(expected, rel=1e-4)


def test_what_teaches_alpha_reaches_the_attention_alone() -> None:
    """The entropies have no gradient."""
    network = _network()
    network.loss_terms(_batch(network))["attention"].backward()  # type: ignore[no-untyped-call]
    reached = {name.split(".")[0] for name, p in network.named_parameters() if p.grad is not None}
    assert reached == {"attention"}


def _terms(follow: Follow) -> dict[str, Tensor]:
    network = _network(PRESET.model_copy(update={"follow": follow}))
    torch.manual_seed(2)
    return network.loss_terms(_batch(network))


def test_follow_changes_the_weighted_triplets_only() -> None:
    """On the same weights, clips and negatives."""
    paper, code = _terms("paper"), _terms("code")
    assert {name for name in paper if not torch.equal(paper[name], code[name])} == {"triplets"}


def test_it_trains_on_the_small_world(small_data: GzslData, tmp_path: Path) -> None:
    """Finite losses, and seen clips far more often right than one in twelve."""
    run = train(small_data, QUICK, tmp_path / "run", n_threads=1)
    assert run.network.n_parts == 1
    assert evaluate(run, small_data).accuracy.seen > 30


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # the exporter warns about its own internals
def test_its_bundle_ranks_as_torch_does(toy_bundle: Path, tmp_path: Path) -> None:
    """Both halves in ONNX, at one row and at many; missing tracks included."""
    run = train(toy_world(), QUICK, tmp_path / "run", n_threads=1)
    served, expected = served_and_torch_distances(run, toy_bundle, tmp_path / "mine")
    np.testing.assert_allclose(served, expected, rtol=1e-4, atol=1e-4)
    assert np.ptp(expected, axis=1).min() > 0.01
