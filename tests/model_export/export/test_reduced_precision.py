"""Smaller graphs: what is made smaller, what stays, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from model_export.errors import ExportError
from model_export.export import reduced_precision
from model_export.export.graph_export import export_graph
from model_export.export.reduced_precision import drop_repeated_casts, reduce_precision
from service.bundle.provenance import GraphCheck, Precision


class Text(nn.Module):
    """A table of embeddings, a layer without bias, a norm, a layer with one."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(500, 256)
        self.first = nn.Linear(256, 256, bias=False)
        self.norm = nn.LayerNorm(256)
        self.last = nn.Linear(256, 64)

    def forward(self, tokens: Tensor) -> Tensor:
        """Unit features."""
        return normalize(self.last(self.norm(self.first(self.table(tokens).mean(dim=1)))), dim=-1)


class Sound(nn.Module):
    """A bank of filters, a logarithm, and a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.bank = nn.Parameter(torch.rand(256, 64))
        self.layer = nn.Linear(64, 32)

    def forward(self, waveform: Tensor) -> Tensor:
        """Unit features."""
        power = (waveform * waveform) @ self.bank
        return normalize(self.layer(10 * torch.log10(power.clamp_min(1e-10))), dim=-1)


def _exported(module: nn.Module, name: str, rows: Tensor, folder: Path) -> tuple[Path, GraphCheck]:
    path = folder / "graph.onnx"
    return path, export_graph(module, {name: rows}, ["features"], path, tolerance=1e-5)


@pytest.fixture
def text(tmp_path: Path) -> tuple[Path, GraphCheck, Tensor]:
    """The text graph, its check, and tokens."""
    torch.manual_seed(0)
    tokens = torch.randint(0, 500, (6, 9))
    return *_exported(Text(), "tokens", tokens, tmp_path), tokens


def _run(path: Path, **inputs: Tensor) -> np.ndarray:
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(None, {name: rows.numpy() for name, rows in inputs.items()})[0]  # type: ignore[no-any-return]


@pytest.mark.parametrize(("precision", "share"), [("int8", 0.3), ("fp16", 0.55)])
def test_a_smaller_graph_gives_nearly_the_same(
    text: tuple[Path, GraphCheck, Tensor], precision: Precision, share: float
) -> None:
    """The size falls, the measured cosine is true, inputs and outputs keep their types."""
    path, check, tokens = text
    before, size = _run(path, tokens=tokens), path.stat().st_size
    reduced = reduce_precision(path, precision, check, [{"tokens": tokens.numpy()}])
    after = _run(path, tokens=tokens)
    assert path.stat().st_size < share * size
    assert after.dtype == np.float32
    a, b = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (before, after))
    assert reduced.cosine == pytest.approx(float(np.sum(a * b, axis=1).min()), abs=1e-6)
    assert 0.999 < (reduced.cosine or 0) < 1
    assert (reduced.precision, reduced.cosine_floor) == (precision, 0.999)
    assert reduced.difference == check.difference


class Long(nn.Module):
    """Features of another length than 1."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 16, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[batch, 8] to [batch, 16]."""
        return 3 * normalize(self.layer(x), dim=-1)


def test_directions_are_compared_whatever_the_lengths(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Long features of another direction are refused, also where their dot product is above 1."""
    torch.manual_seed(0)
    rows, path = torch.randn(5, 8), tmp_path / "graph.onnx"
    check = export_graph(Long(), {"x": rows}, ["features"], path, tolerance=1e-5)
    wide = _run(path, x=rows)
    noise = np.random.default_rng(0).normal(0, 0.1, (16, 8)).astype(np.float32)

    def disturbed(model: onnx.ModelProto) -> onnx.ModelProto:
        for tensor in model.graph.initializer:
            if len(tensor.dims) == 2:
                values = onnx.numpy_helper.to_array(tensor)
                moved = values + noise.reshape(values.shape)
                tensor.CopyFrom(onnx.numpy_helper.from_array(moved, tensor.name))
        return model

    monkeypatch.setattr(reduced_precision, "to_eight_bit", lambda model, _typical: iter([disturbed(model)]))
    with pytest.raises(ExportError, match=r"cosine of 0\.[2-8]"):
        reduce_precision(path, "int8", check, [{"x": rows.numpy()}])
    assert np.array_equal(_run(path, x=rows), wide)


def test_fp32_is_left_alone(text: tuple[Path, GraphCheck, Tensor]) -> None:
    """To the byte."""
    path, check, tokens = text
    before = path.read_bytes()
    assert reduce_precision(path, "fp32", check, [{"tokens": tokens.numpy()}]) is check
    assert path.read_bytes() == before


def test_in_int8_a_row_depends_on_no_other(text: tuple[Path, GraphCheck, Tensor]) -> None:
    """So a label's embedding does not move when others are asked with it."""
    path, check, tokens = text
    reduce_precision(path, "int8", check, [{"tokens": tokens.numpy()}])
    together = _run(path, tokens=tokens)
    alone = np.concatenate([_run(path, tokens=tokens[row : row + 1]) for row in range(len(tokens))])
    np.testing.assert_allclose(together, alone, atol=1e-7)


@pytest.mark.parametrize("precision", ["int8", "fp16"])
def test_a_spectrogram_stays_as_it_is(tmp_path: Path, precision: Precision) -> None:
    """Quiet sound has powers that half precision and 8 bits can't tell from nothing."""
    torch.manual_seed(0)
    waveform = 1e-5 * torch.randn(4, 256)
    path, check = _exported(Sound(), "waveform", waveform, tmp_path)
    reduce_precision(path, precision, check, [{"waveform": waveform.numpy()}])
    weights = {tensor.name: tensor for tensor in onnx.load(str(path)).graph.initializer}
    assert weights["bank"].data_type == onnx.TensorProto.FLOAT
    assert not any(
        list(tensor.dims) == [64, 32] and tensor.data_type == onnx.TensorProto.FLOAT
        for tensor in weights.values()
    )


def test_a_value_is_made_once() -> None:
    """Older converters add the same cast for each node that reads a weight, which onnxruntime refuses."""
    cast = onnx.helper.make_node("Cast", ["scale"], ["wide"], to=1, name="cast")
    norms = [onnx.helper.make_node("Mul", [x, "wide"], [f"{x}_out"]) for x in ("a", "b")]
    graph = onnx.helper.make_graph([cast, cast, *norms], "two norms of one scale", [], [])
    drop_repeated_casts(graph)
    assert [node.op_type for node in graph.node] == ["Cast", "Mul", "Mul"]


def test_below_the_floor_the_export_stops(
    text: tuple[Path, GraphCheck, Tensor],
) -> None:
    """With what to do."""
    path, check, tokens = text
    with pytest.raises(
        ExportError, match=r"graph\.onnx in int8 has a cosine of 0\.999\d+ to fp32; 0\.9999999 is"
    ):
        reduce_precision(path, "int8", check, [{"tokens": tokens.numpy()}], cosine_floor=0.9999999)
    assert _run(path, tokens=tokens).shape == (6, 64), "the fp32 graph is still there"


def test_a_smaller_graph_that_can_not_be_run_counts_as_failed(
    text: tuple[Path, GraphCheck, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next one is tried; if there is none, the error says so."""
    path, check, tokens = text
    broken = onnx.load(str(path))
    broken.graph.node[0].op_type = "NoSuchOperator"
    tried = [broken, onnx.load(str(path))]
    monkeypatch.setattr(reduced_precision, "to_eight_bit", lambda *_: iter(tried))
    assert reduce_precision(path, "int8", check, [{"tokens": tokens.numpy()}]).cosine == pytest.approx(1)
    tried.pop()
    with pytest.raises(ExportError, match=r"graph\.onnx in int8 can't be run by onnxruntime\."):
        reduce_precision(path, "int8", check, [{"tokens": tokens.numpy()}])


def test_a_graph_that_gives_no_numbers_is_refused(tmp_path: Path) -> None:
    """NaN is below any floor."""
    path, _ = _exported(Text(), "tokens", torch.randint(0, 500, (3, 4)), tmp_path)
    check = GraphCheck(difference=0, tolerance=1)
    graph = onnx.load(str(path))
    for tensor in graph.graph.initializer:
        if tensor.name == "last.bias":
            tensor.CopyFrom(onnx.numpy_helper.from_array(np.full(64, np.nan, np.float32), tensor.name))
    onnx.save(graph, str(path))
    with pytest.raises(ExportError, match="cosine of nan"):
        reduce_precision(path, "int8", check, [{"tokens": np.ones((2, 4), np.int64)}])


def test_onnxruntimes_logging_stays_out(text: tuple[Path, GraphCheck, Tensor]) -> None:
    """Its module sets up everybody's logging when it is imported."""
    import logging

    handlers, level = logging.root.handlers[:], logging.root.level
    path, check, tokens = text
    reduce_precision(path, "int8", check, [{"tokens": tokens.numpy()}])
    assert (logging.root.handlers, logging.root.level) == (handlers, level)


class SeveralOutputs(nn.Module):
    """Unit features twice, and a single column."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(8, 16, bias=False), nn.Linear(8, 4, bias=False)
        self.column = nn.Linear(8, 1, bias=False)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """[batch, 8] to [batch, 16], [batch, 4] and [batch, 1]."""
        return normalize(self.first(x), dim=-1), normalize(self.second(x), dim=-1), self.column(x)


@pytest.mark.parametrize(("changed", "is_refused"), [(16, True), (4, True), (1, False)])
def test_every_output_is_compared_that_is_a_direction(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: int, is_refused: bool
) -> None:
    """An output that is turned around is found in any of them; a single column has no cosine."""
    torch.manual_seed(0)
    rows, path = torch.randn(5, 8), tmp_path / "graph.onnx"
    outputs = ["visual", "audio", "nearness"]
    check = export_graph(SeveralOutputs(), {"x": rows}, outputs, path, tolerance=1e-5)

    def turned(model: onnx.ModelProto) -> onnx.ModelProto:
        for tensor in model.graph.initializer:
            if changed in tensor.dims and len(tensor.dims) == 2:
                values = onnx.numpy_helper.to_array(tensor)
                tensor.CopyFrom(onnx.numpy_helper.from_array(-values, tensor.name))
        return model

    monkeypatch.setattr(reduced_precision, "to_eight_bit", lambda model, _typical: iter([turned(model)]))
    batches = [{"x": rows.numpy()}, {"x": rows[:2].numpy()}]
    if is_refused:
        with pytest.raises(ExportError, match=r"cosine of -1\.0"):
            reduce_precision(path, "int8", check, batches)
    else:
        assert reduce_precision(path, "int8", check, batches).cosine == pytest.approx(1)
