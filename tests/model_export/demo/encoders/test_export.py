"""Towers and their ONNX graphs."""

from pathlib import Path

import onnxruntime as ort
import pytest
import torch
from torch import nn

from model_export.demo.encoders.towers import AudioTower, TextTower, TinyConfig, VisualTower, example_inputs
from model_export.export.graph import export_graph

CONFIG = TinyConfig(image_widths=(8, 16, 24), audio_widths=(8, 16, 24), text_width=32, text_layers=1)
TOWERS: dict[str, type[VisualTower] | type[AudioTower] | type[TextTower]] = {
    "visual": VisualTower,
    "audio": AudioTower,
    "text_visual": TextTower,
}


def small_tower(name: str) -> nn.Module:
    """A small tower with random weights."""
    torch.manual_seed(0)
    return TOWERS[name](CONFIG).eval()


@pytest.mark.parametrize("name", TOWERS)
def test_features_have_unit_length(name: str) -> None:
    """Whatever comes in."""
    _, example = example_inputs(CONFIG, 3)[name]
    lengths = small_tower(name)(example).norm(dim=1)
    torch.testing.assert_close(lengths, torch.ones(3))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("name", TOWERS)
def test_the_graph_answers_as_torch_does(name: str, tmp_path: Path) -> None:
    """At two batch sizes that differ from the one it was exported with, within 1e-5."""
    tower, path = small_tower(name), tmp_path / "tower.onnx"
    axis, example = example_inputs(CONFIG, 3)[name]
    export_graph(tower, {axis: example}, ["features"], path, tolerance=1e-5)
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    for n in (2, 5):
        _, other = example_inputs(CONFIG, n, seed=n)[name]
        (features,) = session.run(["features"], {axis: other.numpy()})
        with torch.no_grad():
            torch.testing.assert_close(torch.from_numpy(features), tower(other), atol=1e-5, rtol=0)


def test_loudness_does_not_move_an_audio_feature() -> None:
    """A waveform at a tenth of the level has the same feature."""
    tower = small_tower("audio")
    _, example = example_inputs(CONFIG, 2)["audio"]
    torch.testing.assert_close(tower(example), tower(example * 0.1), atol=1e-3, rtol=0)


def test_padding_does_not_move_a_text_feature() -> None:
    """Tokens cut to their length give what padded ones give."""
    tower = small_tower("text_visual")
    _, tokens = example_inputs(CONFIG, 2)["text_visual"]
    used = CONFIG.context_length // 2
    torch.testing.assert_close(tower(tokens), tower(tokens[:, :used]), atol=1e-5, rtol=0)
