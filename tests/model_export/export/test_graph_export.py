"""One module to one graph: free lengths, other opsets, and batches that a graph would mix up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from model_export.errors import ExportError, ParityError
from model_export.export import graph_export
from model_export.export.graph_export import export_graph
from model_export.export.graph_rewriting import resize_to_matmul


class MeanOfRows(nn.Module):
    """tokens [batch, length] to [batch, 4]."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(50, 4)

    def forward(self, tokens: Tensor) -> Tensor:
        """Average over the row."""
        rows: Tensor = self.table(tokens)
        return rows.mean(dim=1)


class RoundsItsBatch(nn.Module):
    """Works out its batch as a float, which the exporter takes for a constant: laion_clap does so."""

    def forward(self, x: Tensor) -> Tensor:
        """Rows of 8 as two halves, the second subtracted."""
        batch = int(x.shape[0] * 8 / 8.0)
        halves = x.view(batch, 2, -1)
        return (halves[:, 0] - halves[:, 1]).reshape(-1, 4)


class Resized(nn.Module):
    """[batch, 1, 50, 8] to [batch, 8], by way of 64 rows and of 12 columns, as CLAP resizes spectrograms."""

    def __init__(self, mode: str) -> None:
        super().__init__()
        self.mode = mode

    def forward(self, x: Tensor) -> Tensor:
        """Longer, then wider."""
        longer = interpolate(x, (64, 8), mode=self.mode, align_corners=True)
        wider = interpolate(longer, (64, 12), mode=self.mode, align_corners=True)
        return (wider[:, 0, :, :8] * torch.arange(64)[:, None]).mean(dim=1)


@pytest.mark.parametrize(
    ("settings", "n_left"), [({}, 0), ({"antialias": 1}, 1), ({"cubic_coeff_a": -0.5}, 1)]
)
def test_only_what_torch_calls_bicubic_is_written_as_its_product(
    settings: dict[str, float], n_left: int
) -> None:
    """One that smooths, or with another curve, is another product."""
    known: dict[str, Any] = {"cubic_coeff_a": -0.75, "mode": "cubic"} | settings
    corners = "align_corners"
    node = onnx.helper.make_node(
        "Resize", ["x", "", "", "size"], ["y"], coordinate_transformation_mode=corners, **known
    )
    rows, fewer = (
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["batch", 1, n, 8])
        for name, n in (("x", 50), ("y", 20))
    )
    size = onnx.numpy_helper.from_array(np.array([3, 1, 20, 8]), "size")
    graph = onnx.helper.make_graph([node], "g", [rows], [fewer], [size], value_info=[fewer])
    resize_to_matmul(graph)
    assert [node.op_type for node in graph.node].count("Resize") == n_left


@pytest.mark.parametrize(("mode", "n_left"), [("bicubic", 1), ("bilinear", 2)])
def test_a_bicubic_resizing_of_rows_is_a_product(tmp_path: Path, mode: str, n_left: int) -> None:
    """Of the last axis, or in another way, it stays as it is; the numbers are torch's in any case."""
    path = tmp_path / "g.onnx"
    check = export_graph(Resized(mode), {"x": torch.randn(3, 1, 50, 8)}, ["y"], path, tolerance=1e-4)
    assert check.difference <= 1e-4
    assert [node.op_type for node in onnx.load(str(path)).graph.node].count("Resize") == n_left


def test_a_free_length_takes_any_up_to_the_longest(tmp_path: Path) -> None:
    """Named axes, and the right numbers in lengths that were not traced."""
    module = MeanOfRows()
    lengths = [torch.randint(0, 50, (3, length)) for length in (2, 12)]
    path = tmp_path / "g.onnx"
    examples = {"tokens": torch.randint(0, 50, (2, 5))}
    check = export_graph(module, examples, ["y"], path, tolerance=1e-6, further=lengths, max_length=12)
    assert check.difference <= 1e-6
    session = ort.InferenceSession(path)
    assert session.get_inputs()[0].shape == ["batch", "length"]
    for rows in lengths:
        (found,) = session.run(None, {"tokens": rows.numpy()})
        torch.testing.assert_close(torch.from_numpy(found), module(rows).detach())


def test_a_graph_that_mixes_up_other_batches_is_refused(tmp_path: Path) -> None:
    """It is right for the batch that it was traced with only."""
    with pytest.raises(ParityError, match="differs from torch"):
        export_graph(RoundsItsBatch(), {"x": torch.randn(2, 8)}, ["y"], tmp_path / "g.onnx", tolerance=1e-6)


class KnowsOneBatch(nn.Module):
    """Writes the batch that it was traced with into its shapes."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.shape = shape

    def forward(self, x: Tensor) -> Tensor:
        """[batch, 8] to [batch, 8]."""
        batch = int(x.shape[0] * 8 / 8.0)
        return x.view(batch, *self.shape).flip(0).reshape(batch, 8)


@pytest.mark.parametrize("shape", [(8,), (-1,)])
def test_a_graph_that_other_batches_break_is_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    """It can't be run on them, or gives other shapes; the message is the same as for other numbers."""
    module, further = KnowsOneBatch(shape), [torch.randn(3, 8)]
    with pytest.raises(ParityError, match="differs from torch by inf"):
        export_graph(
            module, {"x": torch.randn(2, 8)}, ["y"], tmp_path / "g.onnx", tolerance=1e-6, further=further
        )


def test_an_opset_that_torch_can_not_write_is_refused(tmp_path: Path) -> None:
    """It would fall back to its own without an error."""
    module = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4))
    with pytest.raises(ExportError, match=r"can't write opset 13; leave --opset at 20"):
        export_graph(module, {"x": torch.randn(3, 4)}, ["y"], tmp_path / "g.onnx", tolerance=1e-5, opset=13)


class Undecided(nn.Module):
    """Looks at its numbers to choose what to do, which no graph can."""

    def forward(self, x: Tensor) -> Tensor:
        """[batch, 4] to [batch, 4]."""
        return x if x.sum() > 0 else -x


def test_what_can_not_be_written_is_told_in_one_line(tmp_path: Path) -> None:
    """The libraries say it on a page, or in a paragraph."""
    path, rows = tmp_path / "g.onnx", {"x": torch.randn(3, 4)}
    with pytest.raises(ExportError, match=r"can't write the module Undecided: \w+: \w.*\Z") as caught:
        export_graph(Undecided(), rows, ["y"], path, tolerance=1e-5)
    assert "\n" not in caught.value.message
    node = onnx.helper.make_node("NoSuchOperator", ["x"], ["y"])
    graph = onnx.helper.make_graph([node], "g", [], [onnx.helper.make_empty_tensor_value_info("y")])
    with pytest.raises(ExportError, match=r"g\.onnx is no valid graph: \w+: \w.*\Z"):
        graph_export._save(onnx.helper.make_model(graph), path)
    assert not path.exists()


def test_a_graph_that_no_file_can_hold_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Instead of an error of the library that writes it."""
    monkeypatch.setattr(graph_export, "MAX_WEIGHTS_BYTES", 100)
    with pytest.raises(ExportError, match=r"g\.onnx has .* GB of weights, .*: choose a smaller model"):
        export_graph(nn.Linear(6, 6), {"x": torch.randn(3, 6)}, ["y"], tmp_path / "g.onnx", tolerance=1e-5)


def test_a_newer_opset(tmp_path: Path) -> None:
    """If onnxruntime runs it."""
    module = nn.Linear(4, 4)
    export_graph(module, {"x": torch.randn(3, 4)}, ["y"], tmp_path / "g.onnx", tolerance=1e-5, opset=22)


class ThreeOutputs(nn.Module):
    """Rows of 4 to features for two tracks and a number."""

    def __init__(self, factor: float = 1.0) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The last is what the factor changes."""
        return x * 2, x[:, :3] - 1, x.amax(dim=1, keepdim=True) * self.factor


def test_several_outputs_keep_their_names_and_order(tmp_path: Path) -> None:
    """Each with its own width and a free batch."""
    path, rows = tmp_path / "g.onnx", torch.randn(3, 4)
    names = ["visual", "audio", "nearness"]
    check = export_graph(ThreeOutputs(), {"x": rows}, names, path, tolerance=1e-6)
    assert check.difference <= 1e-6
    session = ort.InferenceSession(path)
    assert [(node.name, node.shape) for node in session.get_outputs()] == [
        ("visual", ["batch", 4]),
        ("audio", ["batch", 3]),
        ("nearness", ["batch", 1]),
    ]
    more = torch.randn(7, 4)
    for found, wanted in zip(session.run(names, {"x": more.numpy()}), ThreeOutputs()(more), strict=True):
        torch.testing.assert_close(torch.from_numpy(found), wanted)


def test_every_output_is_compared_with_torch(tmp_path: Path) -> None:
    """Also the last one, and the largest difference is told."""
    with pytest.raises(ParityError, match="differs from torch"):
        export_graph(
            ThreeOutputs(),
            {"x": torch.randn(3, 4)},
            ["visual", "audio", "nearness"],
            tmp_path / "g.onnx",
            tolerance=1e-3,
            original=ThreeOutputs(1.1),
        )
