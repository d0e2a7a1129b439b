"""Products of integers: what they compute, row by row, and that no sum overflows on any processor."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from model_export.export.eight_bit import to_eight_bit
from model_export.export.graph_export import export_graph
from model_export.export.reduced_precision import reduce_precision
from service.bundle.provenance import GraphCheck

Floats = NDArray[np.float32]
LEVELS = 90


class Picture(nn.Module):
    """Patches as a ViT takes them, and a layer."""

    def __init__(self, *, bias: bool) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 24, 8, stride=8, bias=bias)
        self.layer = nn.Linear(24, 16)

    def forward(self, frames: Tensor) -> Tensor:
        """[batch, 3, 32, 16] to [batch, 16]."""
        return self.layer(self.patches(frames).flatten(2).transpose(1, 2)).mean(dim=1)  # type: ignore[no-any-return]


def _eight_bit(module: nn.Module, name: str, rows: Tensor, folder: Path) -> onnx.ModelProto:
    path = folder / "graph.onnx"
    export_graph(module, {name: rows}, ["features"], path, tolerance=1e-4)
    return next(to_eight_bit(onnx.load(str(path))))


def _run(model: onnx.ModelProto, rows: Tensor) -> Floats:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    found: Floats = session.run(None, {session.get_inputs()[0].name: rows.numpy()})[0]
    return found


def _by_hand(rows: Floats, weights: Floats, bias: Floats) -> Floats:
    """The same arithmetic in 64-bit integers: each row and each column scaled to its own largest value."""
    row_max, column_max = np.abs(rows).max(1, keepdims=True), np.abs(weights).max(0, keepdims=True)
    q_rows = np.rint(rows * (LEVELS / row_max)).astype(np.int64)
    q_weights = np.rint(weights / column_max * LEVELS).astype(np.int64)
    return (q_rows @ q_weights) * (row_max / LEVELS) * (column_max / LEVELS) + bias  # type: ignore[no-any-return]


def test_a_product_is_that_of_integers_with_a_scale_for_each_row_and_column(tmp_path: Path) -> None:
    """Rows of very different sizes lose nothing to each other."""
    torch.manual_seed(0)
    layer = nn.Linear(200, 30)
    rows = torch.randn(5, 200) * torch.tensor([[1e-3], [1.0], [50.0], [1.0], [0.0]])
    found = _run(_eight_bit(layer, "rows", rows, tmp_path), rows)
    weights, bias = layer.weight.detach().numpy().T, layer.bias.detach().numpy()
    expected = _by_hand(rows.numpy()[:4], weights, bias)
    np.testing.assert_allclose(found[:4], expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found[4], bias, atol=1e-6, err_msg="a row of zeros")
    exact = layer(rows).detach().numpy()
    assert (np.abs(found - exact).max(1) < 0.02 * np.abs(exact).max(1)).all()


class Text(nn.Module):
    """Two products with one input behind an embedding; the second has another behind it, without a bias."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(40, 200)
        self.left, self.right = nn.Linear(200, 30), nn.Linear(200, 30, bias=False)
        self.last = nn.Linear(30, 20, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """int64 [batch, 2] to [batch, 50]."""
        x = self.embedding(tokens).mean(dim=1)
        return torch.cat([self.left(x), self.last(self.right(x))], dim=1)


def test_products_of_texts_lose_hardly_anything_of_their_rows(tmp_path: Path) -> None:
    """Rows have twenty times as many levels as in one part; what is lost is lost by the weights."""
    torch.manual_seed(0)
    module, tokens = Text(), torch.arange(40).reshape(20, 2)
    model = _eight_bit(module, "tokens", tokens, tmp_path)
    kinds = [node.op_type for node in model.graph.node]
    assert kinds.count("MatMulIntegerToFloat") == 6, "two for each product"
    assert kinds.count("ReduceMax") == 2, "rows of two products are quantised once"
    stored = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    table = next(v for name, v in stored.items() if name.endswith("_table"))
    table = table * next(v for name, v in stored.items() if name.endswith("_scale") and len(v) == len(table))
    x = table[tokens.numpy()].mean(axis=1)

    def narrowed(layer: nn.Linear) -> Floats:
        weights = layer.weight.detach().numpy().T
        step = np.abs(weights).max(0, keepdims=True) / 127
        kept: Floats = (np.rint(weights / step) * step).astype(np.float32)
        return kept

    left = x @ narrowed(module.left) + module.left.bias.detach().numpy()
    expected = np.concatenate([left, x @ narrowed(module.right) @ narrowed(module.last)], axis=1)
    found = _run(model, tokens)
    assert np.abs(found - expected).max() < 2e-3 * np.abs(expected).max()
    alone = np.concatenate([_run(model, tokens[row : row + 1]) for row in range(20)])
    np.testing.assert_allclose(found, alone, rtol=1e-5, atol=1e-6)


def test_a_text_of_zeros_has_products_of_zero(tmp_path: Path) -> None:
    """Nothing is divided by its largest magnitude."""
    module = Text()
    with torch.no_grad():
        module.embedding.weight.zero_()
    tokens = torch.zeros(2, 2, dtype=torch.int64)
    expected = module(tokens).detach().numpy()
    np.testing.assert_allclose(_run(_eight_bit(module, "tokens", tokens, tmp_path), tokens), expected)


def test_no_sum_of_texts_overflows_where_every_value_is_at_its_largest(tmp_path: Path) -> None:
    """Levels of both parts and of weights together fit into 16 bits, added in pairs."""
    module = Text()
    with torch.no_grad():
        for weights in (module.embedding.weight, module.left.weight, module.right.weight, module.last.weight):
            weights.fill_(1.0)
        module.left.bias.zero_()
    tokens = torch.zeros(2, 2, dtype=torch.int64)
    model = _eight_bit(module, "tokens", tokens, tmp_path)
    expected = [[200.0] * 30 + [200.0 * 30] * 20] * 2
    np.testing.assert_allclose(_run(model, tokens), expected, rtol=1e-5)
    stored = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    zero = int(next(v for v in stored.values() if v.dtype == np.uint8))
    largest = max(int(np.abs(v).max()) for name, v in stored.items() if name.endswith("_weights"))
    assert 2 * (2 * zero) * largest <= np.iinfo(np.int16).max
    for node in model.graph.node:  # what the products take
        if node.op_type == "QuantizeLinear":
            model.graph.output.append(onnx.helper.make_empty_tensor_value_info(node.output[0]))
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    levels = session.run(None, {"tokens": tokens.numpy()})[1:]
    assert len(levels) == 4, "both parts of the rows of two products, and of one behind another"
    assert max(int(part.max()) for part in levels) <= 2 * zero


def test_no_sum_overflows_where_every_value_is_at_its_largest(tmp_path: Path) -> None:
    """Processors without VNNI add pairs of products in 16 bits, and cut off what is over."""
    layer = nn.Linear(256, 4, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[1.0], [-1.0], [0.5], [-0.5]]).expand(4, 256))
    rows = torch.ones(2, 256)
    model = _eight_bit(layer, "rows", rows, tmp_path)
    np.testing.assert_allclose(_run(model, rows), [[256, -256, 128, -128]] * 2, rtol=1e-5)
    integers = [
        onnx.numpy_helper.to_array(t) for t in model.graph.initializer if t.data_type == onnx.TensorProto.INT8
    ]
    largest = max(int(np.abs(values).max()) for values in integers)
    assert 2 * (2 * LEVELS) * largest <= np.iinfo(np.int16).max


@pytest.mark.parametrize("bias", [False, True])
def test_patches_are_a_product_too(tmp_path: Path, bias: bool) -> None:
    """In the same order as the convolution gives them."""
    torch.manual_seed(0)
    module, frames = Picture(bias=bias), torch.randn(3, 3, 32, 16)
    model = _eight_bit(module, "frames", frames, tmp_path)
    assert not [node for node in model.graph.node if node.op_type == "Conv"]
    expected = module(frames).detach().numpy()
    np.testing.assert_allclose(_run(model, frames), expected, atol=0.02 * np.abs(expected).max())


def test_patches_that_leave_some_of_the_picture_over_stay_a_convolution(tmp_path: Path) -> None:
    """As where a picture of 384 pixels is cut into patches of 14; what is behind them is in 8 bits."""
    torch.manual_seed(0)
    module, frames = Picture(bias=True), torch.randn(3, 3, 37, 16)
    model = _eight_bit(module, "frames", frames, tmp_path)
    kinds = [node.op_type for node in model.graph.node]
    assert (kinds.count("Conv"), kinds.count("MatMulIntegerToFloat")) == (1, 1)
    expected = module(frames).detach().numpy()
    np.testing.assert_allclose(_run(model, frames), expected, atol=0.02 * np.abs(expected).max())


def test_convolutions_of_one_pixel_stay_as_they_are(tmp_path: Path) -> None:
    """As a product they would be turned over twice, which costs more than 8 bits save."""
    module = nn.Sequential(nn.Conv2d(256, 32, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    model = _eight_bit(module, "frames", torch.randn(2, 256, 4, 4), tmp_path)
    assert [node.op_type for node in model.graph.node].count("Conv") == 1


def test_a_row_depends_on_no_other(tmp_path: Path) -> None:
    """So a clip's feature does not move with its neighbours in a batch."""
    torch.manual_seed(0)
    frames = torch.randn(4, 3, 32, 16) * torch.tensor([1.0, 10.0, 0.1, 1.0]).view(4, 1, 1, 1)
    model = _eight_bit(Picture(bias=True), "frames", frames, tmp_path)
    alone = np.concatenate([_run(model, frames[row : row + 1]) for row in range(4)])
    np.testing.assert_allclose(_run(model, frames), alone, rtol=1e-4, atol=1e-6)


class Convolutional(nn.Module):
    """A stem, a depthwise and a wide convolution, and a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 32, 3, stride=2)
        self.depthwise = nn.Conv2d(32, 32, 3, groups=32)
        self.wide = nn.Conv2d(32, 128, 3)
        self.layer = nn.Linear(128, 200)

    def forward(self, frames: Tensor) -> Tensor:
        """uint8 [batch, 24, 24, 3] to [batch, 200]."""
        x = self.stem((frames.permute(0, 3, 1, 2).float() - 127) / 128).relu()
        return self.layer(self.wide(self.depthwise(x).relu()).relu().mean(dim=(2, 3)))  # type: ignore[no-any-return]


@pytest.fixture
def convolutional(tmp_path: Path) -> tuple[Convolutional, Tensor, onnx.ModelProto]:
    """The network, frames, and its graph in 8 bits; outputs of very different sizes."""
    torch.manual_seed(0)
    module = Convolutional()
    with torch.no_grad():
        module.wide.weight *= torch.logspace(-2, 1, 128)[:, None, None, None]
        module.layer.weight *= torch.logspace(-1, 1, 200)[:, None]
    frames = torch.randint(0, 256, (4, 24, 24, 3), dtype=torch.uint8)
    return module, frames, _eight_bit(module, "frames", frames, tmp_path)


def test_a_convolutional_network_is_stored_in_8_bits(
    convolutional: tuple[Convolutional, Tensor, onnx.ModelProto], tmp_path: Path
) -> None:
    """It computes in fp32, nearly the same, with each row for itself, and is smaller by half and more."""
    module, frames, model = convolutional
    assert {"Conv", "MatMul"} <= {node.op_type for node in model.graph.node}
    assert not [node for node in model.graph.node if node.domain]
    assert model.ByteSize() < 0.4 * (tmp_path / "graph.onnx").stat().st_size
    exact, found = module(frames).detach().numpy(), _run(model, frames)
    norms = np.linalg.norm(exact, axis=1) * np.linalg.norm(found, axis=1)
    assert (np.sum(exact * found, axis=1) / norms).min() >= 0.999
    alone = np.concatenate([_run(model, frames[row : row + 1]) for row in range(4)])
    np.testing.assert_allclose(found, alone, rtol=1e-5, atol=1e-5)


def test_large_weights_are_stored_with_a_scale_for_each_output(
    convolutional: tuple[Convolutional, Tensor, onnx.ModelProto],
) -> None:
    """Kernels by their first axis, matrices by their last; small ones stay as they are."""
    module, _, model = convolutional
    stored = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    levels = {name.removesuffix("_8bit"): v for name, v in stored.items() if v.dtype == np.int8}
    shapes = sorted((v.shape for v in levels.values()), key=len)
    assert shapes == [(128, 200), (128, 32, 3, 3)]
    for name, values in levels.items():
        scale = stored[f"{name}_scale"]
        is_kernel = values.ndim == 4
        assert scale.shape == ((128, 1, 1, 1) if is_kernel else (1, 200))
        original = module.wide.weight if is_kernel else module.layer.weight.T
        error = np.abs(values * scale - original.detach().numpy())
        assert (error <= 0.501 * scale).all()
        assert np.abs(values).max() == 127
    kept = [v.shape for v in stored.values() if v.dtype == np.float32 and v.ndim == 4 and 3 in v.shape]
    assert (32, 3, 3, 3) in kept
    assert (32, 1, 3, 3) in kept


class Small(nn.Module):
    """Two convolutions; sums are cut off at 6, as in EfficientNet-Lite, or grow from channel to channel."""

    scale: Tensor

    def __init__(self, *, is_bounded: bool) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 32, 3, stride=2)
        self.wide = nn.Conv2d(32, 128, 3, bias=False)
        self.activation: nn.Module = nn.ReLU6() if is_bounded else nn.ReLU()
        self.register_buffer("scale", torch.logspace(-3, 3, 128) if not is_bounded else torch.ones(128))
        with torch.no_grad():
            self.wide.weight *= self.scale[:, None, None, None] * (20 if is_bounded else 1)

    def forward(self, frames: Tensor) -> Tensor:
        """uint8 [batch, 24, 24, 3] to [batch, 128], of unit length."""
        x = self.activation(self.stem((frames.permute(0, 3, 1, 2).float() - 127) / 128))
        x = self.activation(self.wide(x)).mean(dim=(2, 3)) / self.scale
        return nn.functional.normalize(x)


Exported = tuple[Path, GraphCheck, dict[str, NDArray[np.generic]]]


def _small(folder: Path, *, is_bounded: bool) -> Exported:
    """The network's graph, its check, and a batch of frames."""
    torch.manual_seed(0)
    frames = torch.randint(0, 256, (6, 24, 24, 3), dtype=torch.uint8)
    path = folder / "visual.onnx"
    check = export_graph(Small(is_bounded=is_bounded), {"frames": frames}, ["features"], path, tolerance=1e-4)
    return path, check, {"frames": frames.numpy()}


def test_typical_inputs_let_a_convolutional_network_compute_in_8_bits(tmp_path: Path) -> None:
    """Ranges are taken after sums are cut off, with a scale for each kernel, and each row for itself."""
    path, check, batch = _small(tmp_path, is_bounded=True)
    reduced = reduce_precision(path, "int8", check, [batch], are_typical=True)
    assert reduced.cosine is not None
    assert reduced.cosine >= 0.999
    model = onnx.load(str(path))
    after = {name: node.op_type for node in model.graph.node for name in node.input}
    assert {after[n.output[0]] for n in model.graph.node if n.op_type == "Conv"} == {"QuantizeLinear"}
    narrow = [t for t in model.graph.initializer if t.data_type == onnx.TensorProto.INT8]
    assert {tuple(t.dims) for t in narrow if len(t.dims) == 4} == {(32, 3, 3, 3), (128, 32, 3, 3)}
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    frames = batch["frames"]
    alone = np.concatenate([session.run(None, {"frames": frames[i : i + 1]})[0] for i in range(len(frames))])
    np.testing.assert_array_equal(session.run(None, {"frames": frames})[0], alone)


def test_a_network_that_loses_too_much_in_8_bits_computes_in_fp32_with_stored_8_bits(tmp_path: Path) -> None:
    """The floor decides: one range for all channels loses small ones, a scale for each kernel does not."""
    path, check, batch = _small(tmp_path, is_bounded=False)
    reduced = reduce_precision(path, "int8", check, [batch], are_typical=True)
    assert reduced.precision == "int8"
    kinds = {node.op_type for node in onnx.load(str(path)).graph.node}
    assert "QuantizeLinear" not in kinds
    assert "Cast" in kinds


def test_transformers_still_compute_in_integers(tmp_path: Path) -> None:
    """Patches that lie side by side are a product, and make no network convolutional."""
    model = _eight_bit(Picture(bias=True), "frames", torch.randn(2, 3, 32, 16), tmp_path)
    kinds = [node.op_type for node in model.graph.node]
    assert kinds.count("MatMulIntegerToFloat") == 2
    assert "Conv" not in kinds
