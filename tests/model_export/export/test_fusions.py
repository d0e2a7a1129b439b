"""Which fusions of onnxruntime the service leaves out: it takes names that it doesn't know without a word."""

from __future__ import annotations

from pathlib import Path

import onnx
import onnxruntime as ort
import pytest
import torch
from torch import Tensor, nn

from model_export.export.graph_export import export_graph
from service.runtime.graph import _options
from service.runtime.providers import Runtime


class Layer(nn.Module):
    """A layer of a transformer's texts, without its attention: norm after sum, Gelu after a bias."""

    def __init__(self) -> None:
        super().__init__()
        self.wide, self.narrow, self.norm = nn.Linear(8, 16), nn.Linear(16, 8), nn.LayerNorm(8)

    def forward(self, x: Tensor) -> Tensor:
        """[batch, 4, 8] to [batch, 8]."""
        y = self.narrow(nn.functional.gelu(self.wide(x)))
        return self.norm(x + y).mean(dim=1)  # type: ignore[no-any-return]


@pytest.mark.parametrize("fuses_all", [True, False])
def test_slow_fusions_are_left_out(tmp_path: Path, fuses_all: bool) -> None:
    """But not where all are wanted."""
    path, optimised = tmp_path / "g.onnx", tmp_path / "optimised.onnx"
    export_graph(Layer(), {"x": torch.randn(2, 4, 8)}, ["y"], path, tolerance=1e-5)
    options = _options(Runtime(), fuses_all=fuses_all)
    options.optimized_model_filepath = str(optimised)
    ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    kinds = {node.op_type for node in onnx.load(str(optimised)).graph.node}
    fused = {"SkipLayerNormalization", "BiasGelu"}
    assert kinds & fused == (fused if fuses_all else set())
