"""AVCA: its networks, every term of its loss, its two oversights, and what is served."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from model_export.data.gzsl_data import GzslData
from model_export.head.evaluation import evaluate
from model_export.head.head_config import PRESETS, Follow, HeadConfig
from model_export.head.methods.avca import (
    Avca,
    CrossAttention,
    decoded_triplet,
    four_triplets,
    sum_of_mse,
)
from model_export.head.methods.terms import negatives
from model_export.head.training import train
from model_export.head.training_batches import Batch
from tests.model_export.head.methods.toy_run import served_and_torch_distances, toy_world

SMALL = PRESETS["avca"].model_copy(update={"n_epochs": 2, "n_batches_per_epoch": 12, "batch_size": 24})
N_VISUAL, N_AUDIO, N_CLASSES = 6, 10, 4


def n_parameters(module: nn.Module) -> int:
    """Numbers of a module."""
    return sum(p.numel() for p in module.parameters())


def example_batch(n: int = 12) -> Batch:
    """Random clips of four classes."""
    draw = torch.Generator().manual_seed(5)
    visual, audio = torch.randn(n, N_VISUAL, generator=draw), torch.randn(n, N_AUDIO, generator=draw)
    text_input = torch.randn(N_CLASSES, N_VISUAL + N_AUDIO, generator=draw)
    return Batch(visual, audio, torch.arange(n) % N_CLASSES, text_input, torch.eye(N_CLASSES), None)


def example_network(follow: Follow = "paper", dropout: float = 0.0) -> Avca:
    """A network with random weights, the same every time."""
    torch.manual_seed(0)
    p = dropout
    config = HeadConfig(method="avca", follow=follow, embedding_dim=8, dropout=p)
    return Avca(config, N_VISUAL, N_AUDIO)


def test_parameters_at_published_features() -> None:
    """2,117,168 at 512-d and 1024-d features with texts of both: weights, biases and two per norm.

    E(n) = 512 n + 512 + 1,024 + 300 x 512 + 300 + 600; attention = 600 + 300 x 900 + 300 x 300 + 300 and
    600 + 300 x 64 + 64 + 64 x 300 + 300; projections 300 > 512 > 64, and single layers.
    """
    network = Avca(PRESETS["avca"], n_visual=512, n_audio=1024)
    parts = {name: n_parameters(child) for name, child in network.named_children()}
    assert parts == {
        "visual_encoder": 512 * 512 + 155_936 + 100,
        "audio_encoder": 512 * 1024 + 155_936 + 100,
        "attention": 360_900 + 39_364,
        "visual_projection": 300 * 512 + 512 + 1_024 + 512 * 64 + 64 + 128,
        "audio_projection": 188_096,
        "text_projection": 1536 * 64 + 64 + 128,
        "text_decoder": 64 * 1536 + 1536 + 3072,
        "visual_rebuild": 64 * 300 + 300 + 600,
        "audio_rebuild": 20_100,
    }
    assert n_parameters(network) == sum(parts.values()) + 2 * 300 == 2_117_168


def test_the_preset_has_the_published_dropouts_and_momenta() -> None:
    """ActivityNet's 0.2, 0.2, 0.1; momentum 0.99 on the second layers of encoders and projections only."""
    network = Avca(PRESETS["avca"], 6, 10)
    rates = {
        name: {m.p for m in child.modules() if isinstance(m, nn.Dropout)}
        for name, child in network.named_children()
    }
    inner, outer = ("encoder", "projection"), ("text_decoder", "visual_rebuild", "audio_rebuild")
    expected = {f"{track}_{part}": {0.2} for track in ("visual", "audio") for part in inner}
    assert rates == expected | {"attention": {0.2}} | {name: {0.1} for name in ("text_projection", *outer)}
    norms = {name: m.momentum for name, m in network.named_modules() if isinstance(m, nn.BatchNorm1d)}
    two = ("visual_encoder", "audio_encoder", "visual_projection", "audio_projection")
    assert {name for name, momentum in norms.items() if momentum == 0.99} == {f"{name}.1.1" for name in two}
    assert set(norms.values()) == {0.1, 0.99}


def test_a_dropout_that_is_not_set_is_that_of_the_encoders() -> None:
    """None means as `dropout`."""
    network = example_network(dropout=0.3)
    assert {m.p for m in network.modules() if isinstance(m, nn.Dropout)} == {0.3}


def test_attention_is_a_pre_norm_transformer_layer() -> None:
    """Against torch's own layer with the same weights; its projections to heads have zero biases here."""
    torch.manual_seed(0)
    layer = CrossAttention(dropout=0.0)
    for parameter in layer.parameters():  # norms of 1 and 0 would hide where they are applied
        nn.init.normal_(parameter, std=0.2)
    oracle = nn.TransformerEncoderLayer(
        300, 3, dim_feedforward=64, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
    )
    weights = {
        "self_attn.in_proj_weight": layer.to_heads.weight,
        "self_attn.in_proj_bias": torch.zeros(900),
        "self_attn.out_proj.weight": layer.from_heads[0].weight,
        "self_attn.out_proj.bias": layer.from_heads[0].bias,
        "linear1.weight": layer.mlp[1].weight,
        "linear1.bias": layer.mlp[1].bias,
        "linear2.weight": layer.mlp[4].weight,
        "linear2.bias": layer.mlp[4].bias,
        "norm1.weight": layer.norm.weight,
        "norm1.bias": layer.norm.bias,
        "norm2.weight": layer.mlp[0].weight,
        "norm2.bias": layer.mlp[0].bias,
    }
    oracle.load_state_dict(weights)
    tokens = torch.randn(7, 2, 300)
    torch.testing.assert_close(layer(tokens), oracle(tokens), rtol=1e-4, atol=1e-4)


def test_embeddings_are_of_one_clip_each_and_see_both_tracks() -> None:
    """[n, d]; a clip alone gets what it gets among others, whatever the length of its features."""
    network, batch = example_network().eval(), example_batch()
    theta = network.embed_av(batch.visual, batch.audio)
    assert theta.shape == (12, 8)
    assert network.embed_text(torch.randn(3, N_VISUAL), torch.randn(3, N_AUDIO)).shape == (3, 8)
    torch.testing.assert_close(network.embed_av(batch.visual[3:4], batch.audio[3:4]), theta[3:4])
    torch.testing.assert_close(network.embed_av(5 * batch.visual, 0.1 * batch.audio), theta)
    assert not torch.allclose(network.embed_av(batch.visual, batch.audio.flip(0)), theta)
    assert not torch.allclose(network.embed_av(batch.visual.flip(0), batch.audio), theta)


def test_four_triplets_by_hand() -> None:
    """Two clips at 0.5 and 3 of classes at 0 and 1, each the other's negative.

    Text, clip, other clip: 0 and 2.5. Clip, text, other text: 1 and 0. Clip, text, other clip: 0 and 0.5.
    Text, clip, other text: 0.5 and 2. The four means are 1.25, 0.5, 0.25 and 1.25.
    """
    text, clip, other = torch.tensor([[0.0], [1.0]]), torch.tensor([[0.5], [3.0]]), torch.tensor([1, 0])
    assert four_triplets(text, clip, other).item() == pytest.approx(3.25, abs=1e-4)
    assert decoded_triplet(text, clip, other).item() == pytest.approx(1.25, abs=1e-4)


def test_sum_of_mse_by_hand_and_its_gradients() -> None:
    """1 + (4 + 0) / 2 = 3; both sides have a gradient."""
    found = torch.tensor([[1.0]]), torch.tensor([[2.0, 5.0]], requires_grad=True)
    wanted = torch.tensor([[0.0]], requires_grad=True), torch.tensor([[0.0, 5.0]])
    loss = sum_of_mse(found, wanted)
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.item() == pytest.approx(3.0)
    assert found[1].grad is not None
    assert wanted[0].grad is not None


def outputs(network: Avca, batch: Batch) -> dict[str, list[NDArray[np.float64]]]:
    """What each network gives in a step, call by call, and the terms as `terms`."""
    seen: dict[str, list[NDArray[np.float64]]] = {}

    def keep(name: str) -> None:
        def hook(_module: nn.Module, _inputs: object, output: Tensor) -> None:
            seen.setdefault(name, []).append(output.detach().double().numpy())

        getattr(network, name).register_forward_hook(hook)

    for name, _ in network.named_children():
        keep(name)
    torch.manual_seed(3)
    terms = network.loss_terms(batch)
    return seen | {"terms": [np.array([terms[name].item() for name in sorted(terms)])]}


def test_the_whole_loss_against_numpy() -> None:
    """Every term from the outputs of the networks, which enter as the public code has them."""
    batch, network = example_batch(), example_network().eval()
    seen = outputs(network, batch)
    torch.manual_seed(3)
    other = negatives(batch.target).numpy()
    v, a, w = (seen[f"{name}_projection"][0] for name in ("visual", "audio", "text"))
    rho_v, rho_a, rho_w = seen["text_decoder"]
    x = batch.text_input[batch.target].numpy()

    def t(anchor: NDArray[np.float64], positive: NDArray[np.float64], negative: NDArray[np.float64]) -> float:
        near, far = (np.linalg.norm(anchor - one, axis=1) for one in (positive, negative))
        return float(np.maximum(0, near - far + 1).mean())

    def mse(one: NDArray[np.float64], two: NDArray[np.float64]) -> float:
        return float(((one - two) ** 2).mean())

    phi_v, phi_a = seen["visual_encoder"][0], seen["audio_encoder"][0]
    expected = {
        "decoded_triplets": t(rho_w, rho_v, rho_v[other]) + t(rho_w, rho_a, rho_a[other]),
        "rebuilding": mse(seen["visual_rebuild"][0], phi_v) + mse(seen["audio_rebuild"][0], phi_a),
        "reconstruction": mse(rho_v, x) + mse(rho_a, x) + mse(rho_w, x),
        "regression": mse(v, w) + mse(a, w),
        "triplets": sum(
            t(w, clip, clip[other]) + t(clip, w, w[other]) + t(clip, w, clip[other]) + t(w, clip, w[other])
            for clip in (v, a)
        ),
    }
    assert sorted(network.loss_terms(batch)) == list(expected)
    np.testing.assert_allclose(seen["terms"][0], list(expected.values()), rtol=1e-4)


def test_what_is_added_to_a_token_is_the_attention_over_both_with_positions() -> None:
    """Projections get phi + attention([phi_v, phi_a] + positions), visual first."""
    batch, network = example_batch(), example_network().eval()
    seen = outputs(network, batch)
    tokens = np.stack([seen["visual_encoder"][0], seen["audio_encoder"][0]], axis=1)
    attended = network.attention(torch.from_numpy(tokens).float() + network.position)
    entered = torch.from_numpy(tokens).float() + attended
    found = network.visual_projection(entered[:, 0]), network.audio_projection(entered[:, 1])
    for name, theta in zip(("visual", "audio"), found, strict=True):
        np.testing.assert_allclose(
            theta.detach().numpy(), seen[f"{name}_projection"][0], rtol=1e-4, atol=1e-5
        )


@pytest.mark.parametrize(("follow", "is_trained"), [("paper", True), ("code", False)])
def test_the_public_code_does_not_train_the_positions(follow: Follow, is_trained: bool) -> None:
    """They get a gradient only where the method is followed."""
    network = example_network(follow)
    torch.stack(list(network.loss_terms(example_batch()).values())).sum().backward()  # type: ignore[no-untyped-call]
    assert (network.position.grad is not None) == is_trained
    assert next(network.visual_encoder.parameters()).grad is not None


def test_in_the_public_code_rebuilt_tokens_enter_running_averages() -> None:
    """Passes of clips, clips, rebuilt tokens, clips: weights 0.0729, 0.081, 0.09 and 0.1 on the first layer.

    On the second, whose momentum is 0.99, the last pass counts alone but for 1 %. The losses are the same.
    """
    batch, networks = example_batch(), [example_network(follow) for follow in ("paper", "code")]
    paper, code = (outputs(network, batch) for network in networks)
    np.testing.assert_allclose(paper["terms"], code["terms"], rtol=1e-6)
    for name in ("visual", "audio"):
        one, two = (getattr(network, f"{name}_projection") for network in networks)
        rebuilt = torch.from_numpy(paper[f"{name}_rebuild"][0]).float()
        clips, tokens = 10 * one[0][1].running_mean, one[0][0](rebuilt).mean(dim=0)
        expected = (0.0729 + 0.081 + 0.1) * clips + 0.09 * tokens
        torch.testing.assert_close(two[0][1].running_mean, expected, rtol=1e-4, atol=1e-5)
        difference = (two[1][1].running_mean - one[1][1].running_mean).norm() / one[1][1].running_mean.norm()
        assert 0 < difference < 0.03


@pytest.mark.parametrize("follow", ["paper", "code"])
def test_it_learns_the_small_world(small_data: GzslData, tmp_path: Path, follow: Follow) -> None:
    """Finite losses that fall, and twice as many right as by chance among twelve classes."""
    run = train(small_data, SMALL.model_copy(update={"follow": follow}), tmp_path / "run", n_threads=1)
    records = [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]
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
