"""Convolutional networks in 8 bits: computed in 8 bits, or computed in fp32 with weights stored in 8 bits."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from model_export.export.graph_rewriting import front, make, replace_nodes
from model_export.export.quiet_libraries import quiet
from service.runtime.graph import onnxruntime

Batch = Mapping[str, NDArray[np.generic]]
"""Inputs of a graph by name, [n, ...] each."""

# Smaller weights are those of a network's first layers: they save little and cost most in accuracy.
_SMALLEST_STORED = 20_000
# Kernels that lie side by side and are smaller than this cost nothing.
_SMALLEST_TILED = 128
# Rows that run at once while ranges are measured.
_ROWS_AT_ONCE = 4


def compute_narrow(model: onnx.ModelProto, batches: Sequence[Batch]) -> onnx.ModelProto:
    """Compute convolutions in 8 bits, with ranges of activations measured once and stored.

    So a row's result depends on no other row. An activation is quantised after its Relu or Clip, which then
    falls away: before it the range is several times as wide, and most levels would be wasted on values that
    are cut off. Kernels have a scale for each output channel. Products of matrices keep fp32, with weights
    stored in 8 bits, and what leads to the first convolution stays in fp32.

    Args:
        model: Graph of a convolutional network, without Gemm.
        batches: Inputs like those of real use; the ranges are measured on them.
    """
    onnxruntime()  # set up before any part of it is imported
    with quiet():
        from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Rows(CalibrationDataReader):  # type: ignore[misc]  # the library has no types
        def __init__(self) -> None:
            self._rows = _few_at_once(batches)

        def get_next(self) -> dict[str, NDArray[np.generic]] | None:
            return next(self._rows, None)

    with tempfile.TemporaryDirectory() as folder, quiet():
        path = Path(folder, "narrow.onnx")
        quantize_static(
            model,
            path,
            Rows(),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            op_types_to_quantize=["Conv", "Clip", "Relu"],
            nodes_to_exclude=front(model.graph),
        )
        return store_narrow(onnx.load(str(path)))


def _few_at_once(batches: Sequence[Batch]) -> Iterator[dict[str, NDArray[np.generic]]]:
    for batch in batches:
        n_rows = len(next(iter(batch.values())))
        for start in range(0, n_rows, _ROWS_AT_ONCE):
            yield {name: rows[start : start + _ROWS_AT_ONCE] for name, rows in batch.items()}


def store_narrow(model: onnx.ModelProto) -> onnx.ModelProto:
    """Store large weights in 8 bits with a scale for each output; onnxruntime widens them when it loads.

    By Cast and Mul, which it computes once; a DequantizeLinear would run again for every batch.
    """
    graph = model.graph
    stored = {tensor.name: tensor for tensor in graph.initializer}
    kept, nodes, widened = set(front(graph)), list[onnx.NodeProto](), set[str]()
    for node in graph.node:
        name = node.input[1] if node.op_type in ("Conv", "MatMul") and node.name not in kept else ""
        if name in stored and name not in widened and int(np.prod(stored[name].dims)) >= _SMALLEST_STORED:
            widened.add(name)
            values = numpy_helper.to_array(stored[name])
            # Outputs are the first axis of kernels and the last of matrices.
            axes = tuple(range(1, values.ndim)) if node.op_type == "Conv" else tuple(range(values.ndim - 1))
            scale = np.maximum(np.abs(values).max(axis=axes, keepdims=True) / 127, np.float32(1e-12))
            levels = np.rint(values / scale).astype(np.int8)
            graph.initializer.append(numpy_helper.from_array(levels, f"{name}_8bit"))
            graph.initializer.append(numpy_helper.from_array(scale.astype(np.float32), f"{name}_scale"))
            nodes.append(make("Cast", [f"{name}_8bit"], f"{name}_wide", to=onnx.TensorProto.FLOAT))
            nodes.append(make("Mul", [f"{name}_wide", f"{name}_scale"], f"{name}_widened"))
        if name in widened:
            node.input[1] = f"{name}_widened"
        nodes.append(node)
    replace_nodes(graph, nodes)
    return model


def is_convolutional(graph: onnx.GraphProto) -> bool:
    """Whether most of its stored weights are those of convolutions, patches of a ViT not counted."""
    dims = {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    kept, total = set(front(graph)), {"Conv": 0, "MatMul": 0}
    for node in graph.node:
        if node.op_type not in total or node.name in kept or node.input[1] not in dims:
            continue
        weights = dims[node.input[1]]
        is_product = node.op_type == "MatMul" or is_tiled(node, weights)
        total["MatMul" if is_product else "Conv"] += int(np.prod(weights))
    return total["Conv"] > total["MatMul"]


def is_tiled(node: onnx.NodeProto, dims: Sequence[int]) -> bool:
    """Whether a convolution's kernels, of these dims, lie side by side, as those of a ViT's patches do."""
    settings = {entry.name: onnx.helper.get_attribute_value(entry) for entry in node.attribute}
    plain = settings.get("group", 1) == 1 and not any(settings.get("pads", ()))
    large = int(np.prod(dims[1:])) >= _SMALLEST_TILED and dims[2:] != [1, 1]
    return len(dims) == 4 and plain and large and list(settings.get("strides", ())) == list(dims[2:])
