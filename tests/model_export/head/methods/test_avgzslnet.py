"""AVGZSLNet: sizes, two parts whose distances are added, losses by hand, and that it trains and is served."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from model_export.data.gzsl_data import GzslData
from model_export.head.distances import euclidean
from model_export.head.evaluation import evaluate
from model_export.head.head_config import PRESETS, Follow, HeadConfig
from model_export.head.methods.avgzslnet import AvgzslNet, embedding_triplets, reconstruction
from model_export.head.training import train
from model_export.head.training_batches import Batch
from service.bundle.directory import read_manifest
from service.bundle.head_specs import AhseSpec
from tests.model_export.head.methods.toy_run import served_and_torch_distances, toy_world

PRESET = PRESETS["avgzslnet"]
AUTHORS = PRESET.model_copy(update={"follow": "paper", "dropout": 0.5, "decoder_dropout": 0.0})
BOTH = pytest.mark.parametrize("config", [PRESET, AUTHORS], ids=["code", "paper"])


def _network(config: HeadConfig, n_visual: int = 6, n_audio: int = 10) -> AvgzslNet:
    torch.manual_seed(0)
    return AvgzslNet(config, n_visual, n_audio).eval()


def _quick(config: HeadConfig) -> HeadConfig:
    return config.model_copy(update={"n_epochs": 2, "n_batches_per_epoch": 20, "batch_size": 24})


def _batch(network: AvgzslNet) -> Batch:
    """Two clips of two classes: each is the other's negative."""
    draw = torch.Generator().manual_seed(1)
    texts = network.text_input(torch.randn(3, 6, generator=draw), torch.randn(3, 10, generator=draw))
    visual, audio = torch.randn(2, 6, generator=draw), torch.randn(2, 10, generator=draw)
    return Batch(visual, audio, torch.tensor([2, 0]), texts, torch.eye(3), None)


def _parameters(network: AvgzslNet) -> dict[str, int]:
    return {name: sum(p.numel() for p in child.parameters()) for name, child in network.named_children()}


def test_parameters_of_the_rerun_at_published_dimensions() -> None:
    """512-d visual and 1024-d audio features, so 1536-d texts; weights, biases and batch norms by hand."""
    counts = _parameters(_network(PRESET, 512, 1024))
    assert counts == {
        "visual_encoder": 512 * 1024 + 1024 + 2 * 1024 + 1024 * 64 + 64,
        "audio_encoder": 1024 * 1024 + 1024 + 2 * 1024 + 1024 * 64 + 64,
        "text_encoder": 1536 * 300 + 300 + 2 * 300 + 300 * 64 + 64,
        "decoder": 64 * 64 + 64 + 2 * 64 + 64 * 1536 + 1536,
    }
    assert sum(counts.values()) == 2_295_300


def test_parameters_of_the_authors_code_at_published_dimensions() -> None:
    """No batch norm, and one layer for texts."""
    counts = _parameters(_network(AUTHORS, 512, 1024))
    assert counts == {
        "visual_encoder": 512 * 256 + 256 + 256 * 64 + 64,
        "audio_encoder": 1024 * 256 + 256 + 256 * 64 + 64,
        "text_encoder": 1536 * 64 + 64,
        "decoder": 64 * 128 + 128 + 128 * 1536 + 1536,
    }
    assert sum(counts.values()) == 731_456


@BOTH
def test_dropouts_are_those_of_the_configuration(config: HeadConfig) -> None:
    """The decoder has its own."""
    network = _network(config)
    found = {
        name: [m.p for m in child.modules() if isinstance(m, torch.nn.Dropout)]
        for name, child in network.named_children()
    }
    p, q = config.dropout, config.decoder_dropout
    texts = [p] if config.follow == "code" else []
    assert found == {"visual_encoder": [p], "audio_encoder": [p], "text_encoder": texts, "decoder": [q]}


@BOTH
def test_the_distance_is_that_of_both_tracks_added(config: HeadConfig) -> None:
    """Of [theta_visual; theta_audio] and [theta_text; theta_text], part by part, against numpy."""
    network = _network(config)
    visual, audio = torch.randn(5, 6), torch.randn(5, 10)
    av, text = network.embed_av(visual, audio), network.embed_text(visual[:3], audio[:3])
    assert (av.shape, text.shape) == ((5, 128), (3, 128))
    assert torch.equal(text[:, :64], text[:, 64:])
    theta = [one.detach().numpy() for one in (*network.embed_tracks(visual, audio), text[:, :64])]
    expected = sum(np.linalg.norm(track[:, None] - theta[2][None], axis=2) for track in theta[:2])
    found = euclidean(av, text, network.n_parts).detach().numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-4)


@BOTH
def test_embeddings_depend_on_the_direction_of_one_clips_features_alone(config: HeadConfig) -> None:
    """Not on their length, and not on the other clips of a batch."""
    network = _network(config)
    visual, audio = torch.randn(5, 6), torch.randn(5, 10)
    theta = network.embed_av(visual, audio)
    torch.testing.assert_close(network.embed_av(7 * visual, 0.2 * audio), theta)
    torch.testing.assert_close(network.embed_av(visual[:1], audio[:1]), theta[:1])


@BOTH
def test_the_text_input_has_unit_length_and_both_halves_weigh_the_same(config: HeadConfig) -> None:
    """So that a decoder with outputs of unit length can rebuild it."""
    found = _network(config).text_input(3 * torch.ones(2, 6), torch.ones(2, 10))
    assert found.shape == (2, 16)
    torch.testing.assert_close(found[:, :6].norm(dim=1), torch.full((2,), 0.5**0.5))
    torch.testing.assert_close(found.norm(dim=1), torch.ones(2))


def test_only_the_reruns_decoder_gives_unit_length() -> None:
    """Rebuilt texts are as wide as the text input."""
    theta = torch.randn(4, 64)
    rerun, authors = _network(PRESET).decode(theta), _network(AUTHORS).decode(theta)
    assert rerun.shape == authors.shape == (4, 16)
    torch.testing.assert_close(rerun.norm(dim=1), torch.ones(4))
    assert (authors.norm(dim=1) - 1).abs().min() > 0.01


@pytest.mark.parametrize(("follow", "expected"), [("code", 0.5 + 1), ("paper", 0.5 + 1 + 1 / 3 + 2)])
def test_embedding_triplets_by_hand(follow: Follow, expected: float) -> None:
    """On a line: texts at 0, 4, 4; clips at 3, 5, 4.5; their negatives are clips 1, 0, 0.

    Anchor     distances of positive and negative, + 1          losses
    text       3 - 5 + 1, 1 - 1 + 1, 0.5 - 1 + 1                0, 1, 0.5
    clip       3 - 1 + 1, 1 - 5 + 1, 0.5 - 4.5 + 1              3, 0, 0
    its text   1 - 1 + 1, 3 - 5 + 1, 3 - 4.5 + 1                1, 0, 0     (of the negative)
    negative   1 - 5 + 1, 3 - 1 + 1, 3 - 1 + 1                  0, 3, 3
    """
    text, track = torch.tensor([[0.0], [4.0], [4.0]]), torch.tensor([[3.0], [5.0], [4.5]])
    found = embedding_triplets(text, track, torch.tensor([1, 0, 0]), follow)
    assert found.item() == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(("follow", "expected"), [("code", 2.5), ("paper", 6.25)])
def test_reconstruction_by_hand(follow: Follow, expected: float) -> None:
    """Rows 5 and 0 apart, of two entries each: (5 + 0) / 2, or (9 + 16 + 0 + 0) / 4."""
    rebuilt, text = torch.tensor([[3.0, 4.0], [1.0, 1.0]]), torch.tensor([[0.0, 0.0], [1.0, 1.0]])
    assert reconstruction(rebuilt, text, follow).item() == pytest.approx(expected)


def test_a_text_that_is_rebuilt_exactly_has_a_gradient_of_zero() -> None:
    """The root of a sum of squares has none at 0 by itself."""
    rebuilt = torch.ones(2, 3, requires_grad=True)
    reconstruction(rebuilt, torch.ones(2, 3), "code").backward()  # type: ignore[no-untyped-call]
    assert rebuilt.grad is not None
    assert torch.equal(rebuilt.grad, torch.zeros(2, 3))


@BOTH
def test_loss_terms_are_what_numpy_gives(config: HeadConfig) -> None:
    """From the embeddings and rebuilt texts alone."""
    network = _network(config)
    batch = _batch(network)
    texts = batch.text_input[batch.target]
    thetas = [network.embed_text_input(texts)[:, :64], *network.embed_tracks(batch.visual, batch.audio)]
    text, visual, audio = (theta.detach().numpy().astype(np.float64) for theta in thetas)
    from_text, from_visual, from_audio = (
        network.decode(theta).detach().numpy().astype(np.float64) for theta in thetas
    )

    def triplet(anchor: np.ndarray, positive: np.ndarray, negative: np.ndarray) -> float:
        near, far = (np.linalg.norm(anchor - one, axis=1) for one in (positive, negative))
        return float(np.maximum(0, near - far + 1).mean())

    def both_anchors(a: np.ndarray, b: np.ndarray) -> float:
        return triplet(a, b, b[::-1]) + triplet(b, a, a[::-1])

    errors = [one - texts.numpy() for one in (from_text, from_visual, from_audio)]
    paper = config.follow == "paper"
    # With two clips, exchanging a clip and its negative exchanges the rows, whose mean stays the same.
    times = 2 if paper else 1
    expected = {
        "triplets": times * (both_anchors(text, visual) + both_anchors(text, audio)),
        "reconstruction": sum((e**2).mean() if paper else np.linalg.norm(e, axis=1).mean() for e in errors),
        "rebuilt_triplets": triplet(from_text, from_visual, from_visual[::-1])
        + triplet(from_text, from_audio, from_audio[::-1]),
    }
    found = {name: term.item() for name, term in network.loss_terms(batch).items()}
    assert found == pytest.approx(expected, rel=1e-4)


@BOTH
def test_it_trains_on_the_small_world(config: HeadConfig, small_data: GzslData, tmp_path: Path) -> None:
    """Finite losses, and seen clips far more often right than one in twelve."""
    run = train(small_data, _quick(config), tmp_path / "run", n_threads=1)
    assert run.statistics.av_mean.shape == (128,)
    assert evaluate(run, small_data).accuracy.seen > 30


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # the exporter warns about its own internals
@BOTH
def test_its_bundle_ranks_as_torch_does(config: HeadConfig, toy_bundle: Path, tmp_path: Path) -> None:
    """Both halves in ONNX, at one row and at many; missing tracks included."""
    run = train(toy_world(), _quick(config), tmp_path / "run", n_threads=1)
    served, expected = served_and_torch_distances(run, toy_bundle, tmp_path / "mine")
    np.testing.assert_allclose(served, expected, rtol=1e-4, atol=1e-4)
    assert np.ptp(expected, axis=1).min() > 0.01
    spec = read_manifest(tmp_path / "mine").head
    assert isinstance(spec, AhseSpec)
    assert (spec.dim, spec.parts) == (128, 2)
