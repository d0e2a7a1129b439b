"""The networks of a head: sizes, inputs and outputs, and the two halves as graphs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

from model_export.head.head_config import HeadConfig
from model_export.head.methods.clip_clap import ClipClap
from model_export.head.network import HeadAv, HeadText
from model_export.head.run_folder import Run
from tests.model_export.head.small_world import N_AUDIO, N_VISUAL


def n_parameters(module: torch.nn.Module) -> int:
    """Trainable numbers of a module."""
    return sum(p.numel() for p in module.parameters())


def test_published_dimensions_give_the_published_parameters() -> None:
    """2,237,824 in all, as counted in the reference code, network by network."""
    network = ClipClap(HeadConfig(), n_visual=512, n_audio=1024)
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
    network = ClipClap(HeadConfig(), 6, 10).eval()
    theta = network.embed_av(torch.randn(5, 6), torch.randn(5, 10))
    assert theta.shape == (5, 64)
    assert (theta >= 0).all()
    assert network.text_encoder(network.text_input(torch.randn(3, 6), torch.randn(3, 10))).shape == (3, 512)


def test_embeddings_do_not_depend_on_the_length_of_features() -> None:
    """Each feature is L2-normalised, track by track."""
    network = ClipClap(HeadConfig(), 6, 10).eval()
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
def test_the_network_uses_only_the_configured_features(config: HeadConfig, used: set[str]) -> None:
    """Changing a feature changes the embedding exactly if the configuration uses it."""
    network = ClipClap(config, 6, 10).eval()
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


@pytest.mark.parametrize(("scale", "value"), [("reference", 1.0), ("inverse_sqrt", 0.125)])
def test_the_logit_scale_is_a_constant(scale: str, value: float) -> None:
    """1 as in the reference, or 1 / sqrt(64)."""
    assert ClipClap(HeadConfig.model_validate({"logit_scale": scale}), 4, 4).logit_scale == value


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # the exporter warns about its own internals
@pytest.mark.parametrize("half", [HeadAv, HeadText])
def test_each_half_gives_the_same_in_onnx_as_in_torch(
    half: type[nn.Module], small_run: Run, tmp_path: Path
) -> None:
    """Exported with five rows; compared with one and with seventeen, to 1e-5."""
    module = half(small_run.network).eval()
    rows = torch.export.Dim.DYNAMIC
    path = tmp_path / "half.onnx"
    names = ["a", "b"]
    torch.onnx.export(
        module,
        (torch.randn(5, N_VISUAL), torch.randn(5, N_AUDIO)),
        path,
        input_names=names,
        dynamo=True,
        dynamic_shapes=({0: rows}, {0: rows}),
    )
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for n in (1, 17):
        features = torch.randn(n, N_VISUAL), torch.randn(n, N_AUDIO)
        expected = module(*features).detach().numpy()
        (found,) = session.run(None, dict(zip(names, (f.numpy() for f in features), strict=True)))
        np.testing.assert_allclose(found, expected, atol=1e-5)
