"""Sizes, inputs and outputs of the networks."""

import pytest
import torch

from model_export.head.config import HeadConfig
from model_export.head.network import HeadNetwork


def n_parameters(module: torch.nn.Module) -> int:
    """Trainable numbers of a module."""
    return sum(p.numel() for p in module.parameters())


def test_published_dimensions_give_the_published_parameters() -> None:
    """2,237,824 in all, as counted in the reference code, network by network."""
    network = HeadNetwork(HeadConfig(), n_visual=512, n_audio=1024)
    parts = {name: n_parameters(child) for name, child in network.named_children()}
    assert parts == {
        "av_encoder": 787_968,
        "text_encoder": 787_968,
        "av_projection": 296_640,
        "text_projection": 32_960,
        "av_decoder": 297_984,
        "text_decoder": 34_304,
    }
    assert n_parameters(network) == 2_237_824


def test_embeddings_are_64_wide_and_never_negative() -> None:
    """The ReLU is after the last layer too."""
    network = HeadNetwork(HeadConfig(), 6, 10).eval()
    theta = network.embed_av(torch.randn(5, 6), torch.randn(5, 10))
    assert theta.shape == (5, 64)
    assert (theta >= 0).all()
    assert network.text_encoder(network.text_input(torch.randn(3, 6), torch.randn(3, 10))).shape == (3, 512)


def test_length_of_a_feature_does_not_matter() -> None:
    """Each feature is L2-normalised, track by track."""
    network = HeadNetwork(HeadConfig(), 6, 10).eval()
    visual, audio = torch.randn(5, 6), torch.randn(5, 10)
    torch.testing.assert_close(network.embed_av(7 * visual, 0.2 * audio), network.embed_av(visual, audio))


@pytest.mark.parametrize(
    ("config", "used"),
    [
        (HeadConfig(), {"visual", "audio", "text_visual", "text_audio"}),
        (HeadConfig(modality="visual"), {"visual", "text_visual"}),
        (HeadConfig(modality="audio"), {"audio", "text_audio"}),
        (HeadConfig(text="clip"), {"visual", "audio", "text_visual"}),
        (HeadConfig(text="clap"), {"visual", "audio", "text_audio"}),
    ],
)
def test_only_the_chosen_features_are_used(config: HeadConfig, used: set[str]) -> None:
    """Changing a feature changes the embedding exactly if the configuration uses it."""
    network = HeadNetwork(config, 6, 10).eval()
    v, a, v2, a2 = torch.randn(5, 6), torch.randn(5, 10), torch.randn(5, 6), torch.randn(5, 10)
    changed = {
        "visual": network.embed_av(v2, a),
        "audio": network.embed_av(v, a2),
    }
    changed_text = {
        "text_visual": network.embed_text(v2, a),
        "text_audio": network.embed_text(v, a2),
    }
    found = {name for name, theta in changed.items() if not torch.equal(theta, network.embed_av(v, a))}
    found |= {n for n, theta in changed_text.items() if not torch.equal(theta, network.embed_text(v, a))}
    assert found == used


@pytest.mark.parametrize(
    ("scale", "value"), [("reference", 1.0), ("inverse_sqrt", 0.125), ("learned", 0.125)]
)
def test_logit_scale(scale: str, value: float) -> None:
    """1 as in the reference, or 1 / sqrt(64), which a learned scale also starts from."""
    network = HeadNetwork(HeadConfig.model_validate({"logit_scale": scale}), 4, 4)
    assert torch.as_tensor(network.logit_scale()).detach().item() == pytest.approx(value)
    assert (network.log_scale is not None) == (scale == "learned")
