"""A graph with weights in 8 bits; rows of a batch are quantised independently.

onnxruntime's own dynamic quantisation has one scale for a whole batch, so that a clip's feature would depend
on its neighbours. The schemes here have one scale for each row, or quantise weights alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from model_export.export.eight_bit_convolutions import (
    Batch,
    compute_narrow,
    is_convolutional,
    is_tiled,
    store_narrow,
)
from model_export.export.graph_rewriting import front, gemm_to_matmul, make, replace_nodes

# Levels on each side of zero. Processors without VNNI add pairs of products u8 x i8 in 16 bits:
# 2 x (2 x 90) x 90 still fits, so that the same graph gives the same numbers everywhere.
_LEVELS = 90
# In two parts activations have 31 x 64, in coarse steps of 64 fine ones, and weights 127: 2 x 64 x 127 fits.
_COARSE_LEVELS, _FINE_STEPS, _WEIGHT_LEVELS = 31, 64, 127
_ZERO, _ONE, _LEAST, _STEP, _MOST = (f"eight_bit_{name}" for name in ("zero", "one", "least", "step", "most"))
_LAST_AXIS = "eight_bit_last_axis"


def to_eight_bit(model: onnx.ModelProto, typical: Sequence[Batch] = ()) -> Iterator[onnx.ModelProto]:
    """Smaller forms of the graph, the fastest first; the caller takes the first that is close enough to fp32.

    - Text graphs: products in 8 bits, with activations in two parts, which is closest to fp32; speed matters
      less, since names are encoded once and kept.
    - Transformers of pictures and sound: products in 8 bits, which is fastest.
    - Convolutional networks: convolutions in 8 bits where typical inputs give the ranges of the activations;
      otherwise, or second, fp32 with weights stored in 8 bits: a quarter of the size, no faster.

    What leads to the first convolution stays in fp32.

    Args:
        model: Graph of an encoder; it is modified.
        typical: Inputs like those of real use.
    """
    gemm_to_matmul(model.graph)
    if is_convolutional(model.graph):
        if typical:
            yield compute_narrow(deepcopy(model), typical)
        yield store_narrow(model)
        return
    _patches_to_matmul(model.graph)
    kind = model.graph.input[0].type.tensor_type.elem_type
    if kind == onnx.TensorProto.INT64:
        _narrow_tables(model.graph)
        yield _narrow_products(model, _InTwoParts())
    else:
        yield _narrow_products(model, _InOnePart())


class _InOnePart:
    """x W = (x_max / n) (w_max / n) (q_x - zero) q_w, with n levels on each side of zero.

    q_x is x scaled by the largest magnitude x_max of its row, q_w is W scaled by the largest magnitude w_max
    of its column.
    """

    levels = _LEVELS
    constants: Mapping[str, Any] = {_MOST: np.float32(_LEVELS), _ZERO: np.uint8(_LEVELS)}

    def rows(self, rows: str) -> list[onnx.NodeProto]:
        """From rows [..., width] to levels of them and the scale of each."""
        flat, scales, zeros, levels = (
            f"{rows}_{name}" for name in ("flat", "scales", "zeros", "flat_levels")
        )
        zero = numpy_helper.from_array(np.array([_LEVELS], np.uint8))
        return [
            make("Div", [f"{rows}_largest", _MOST], f"{rows}_row_scale"),
            # Scales of an axis take half the time of a product with a scale for each row.
            make("Flatten", [rows], flat, axis=-1),
            make("Reshape", [f"{rows}_row_scale", _LAST_AXIS], scales),
            make("Shape", [scales], f"{rows}_n"),
            make("ConstantOfShape", [f"{rows}_n"], zeros, value=zero),
            make("QuantizeLinear", [flat, scales, zeros], levels, axis=0),
            make("Shape", [rows], f"{rows}_shape"),
            make("Reshape", [levels, f"{rows}_shape"], f"{rows}_levels"),
        ]

    def product(self, rows: str, product: str) -> list[onnx.NodeProto]:
        """From levels to the product, but for the scale of each row."""
        return [_integer_product(f"{rows}_levels", product, _ONE, f"{product}_sums")]


class _InTwoParts:
    """As in one part, with q_x = 64 coarse + fine: two products, and hardly any error from activations."""

    levels = _WEIGHT_LEVELS
    constants: Mapping[str, Any] = {
        _MOST: np.float32(_COARSE_LEVELS * _FINE_STEPS),
        _STEP: np.float32(_FINE_STEPS),
        _ZERO: np.uint8(_FINE_STEPS // 2),
    }

    def rows(self, rows: str) -> list[onnx.NodeProto]:
        """From rows [..., width] to coarse and fine levels of them and the scale of each."""
        scaled, coarse = f"{rows}_scaled", f"{rows}_coarse"
        return [
            make("Div", [f"{rows}_largest", _MOST], f"{rows}_row_scale"),
            make("Div", [_MOST, f"{rows}_largest"], f"{rows}_factor"),
            make("Mul", [rows, f"{rows}_factor"], scaled),
            make("QuantizeLinear", [scaled, _STEP, _ZERO], coarse),
            make("DequantizeLinear", [coarse, _STEP, _ZERO], f"{rows}_coarse_part"),
            make("Sub", [scaled, f"{rows}_coarse_part"], f"{rows}_rest"),
            make("QuantizeLinear", [f"{rows}_rest", _ONE, _ZERO], f"{rows}_fine"),
        ]

    def product(self, rows: str, product: str) -> list[onnx.NodeProto]:
        """From levels to the product, but for the scale of each row."""
        return [
            _integer_product(f"{rows}_coarse", product, _STEP, f"{product}_coarse_sums"),
            _integer_product(f"{rows}_fine", product, _ONE, f"{product}_fine_sums"),
            make("Add", [f"{product}_coarse_sums", f"{product}_fine_sums"], f"{product}_sums"),
        ]


def _narrow_products(model: onnx.ModelProto, scheme: _InOnePart | _InTwoParts) -> onnx.ModelProto:
    """Write each product with stored weights as one of integers; rows are quantised once for all products."""
    graph, nodes, quantised = model.graph, list[onnx.NodeProto](), set[str]()
    stored = {tensor.name: tensor for tensor in graph.initializer}
    kept = set(front(graph))
    for node in graph.node:
        weights = stored.get(node.input[1]) if node.op_type == "MatMul" and node.name not in kept else None
        if weights is None or len(weights.dims) != 2:
            nodes.append(node)
            continue
        rows, product = node.input[0], node.output[0]
        values, scale = _levels(numpy_helper.to_array(weights), axis=0, n=scheme.levels)
        graph.initializer.append(numpy_helper.from_array(values, f"{product}_weights"))
        graph.initializer.append(numpy_helper.from_array(scale[0], f"{product}_weights_scale"))
        if rows not in quantised:
            quantised.add(rows)
            nodes += [*_largest(rows), *scheme.rows(rows)]
        nodes += scheme.product(rows, product)
        nodes.append(make("Mul", [f"{product}_sums", f"{rows}_row_scale"], product))
    shared: dict[str, Any] = {
        _ONE: np.float32(1),
        _LEAST: np.float32(1e-12),
        _LAST_AXIS: np.array([-1], np.int64),
        **scheme.constants,
    }
    graph.initializer.extend(numpy_helper.from_array(np.asarray(v), k) for k, v in shared.items())
    replace_nodes(graph, nodes)
    if all(entry.domain != "com.microsoft" for entry in model.opset_import):
        model.opset_import.append(onnx.helper.make_opsetid("com.microsoft", 1))
    return model


def _largest(rows: str) -> list[onnx.NodeProto]:
    """The largest magnitude of each row; both ends take less time than magnitudes."""
    return [
        make("ReduceMin", [rows, _LAST_AXIS], f"{rows}_low", keepdims=1),
        make("ReduceMax", [rows, _LAST_AXIS], f"{rows}_high", keepdims=1),
        make("Neg", [f"{rows}_low"], f"{rows}_minus_low"),
        make("Max", [f"{rows}_high", f"{rows}_minus_low", _LEAST], f"{rows}_largest"),
    ]


def _integer_product(levels: str, product: str, step: str, output: str) -> onnx.NodeProto:
    """Levels times the stored weights, times the scale of each column and a step."""
    inputs = [levels, f"{product}_weights", step, f"{product}_weights_scale", _ZERO]
    return make("MatMulIntegerToFloat", inputs, output, domain="com.microsoft")


def _levels(values: NDArray[np.float32], axis: int, n: int) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Integers up to n, and the step between two of them along an axis, which is kept with length 1."""
    scale = np.maximum(np.abs(values).max(axis=axis, keepdims=True) / n, np.float32(1e-12)).astype(np.float32)
    return np.rint(values / scale).astype(np.int8), scale


def _narrow_tables(graph: onnx.GraphProto) -> None:
    """Store embedding tables in 8 bits with a scale for each row."""
    stored = {tensor.name: tensor for tensor in graph.initializer}
    nodes = []
    for node in graph.node:
        table = stored.get(node.input[0]) if node.op_type == "Gather" else None
        if table is None or len(table.dims) != 2 or table.data_type != onnx.TensorProto.FLOAT:
            nodes.append(node)
            continue
        levels, scale = _levels(numpy_helper.to_array(table), axis=1, n=127)
        ids, output, name = node.input[1], node.output[0], node.name
        graph.initializer.append(numpy_helper.from_array(levels, f"{name}_table"))
        graph.initializer.append(numpy_helper.from_array(scale, f"{name}_scale"))
        nodes += [
            make("Gather", [f"{name}_table", ids], f"{output}_8bit"),
            make("Gather", [f"{name}_scale", ids], f"{output}_scale"),
            make("Cast", [f"{output}_8bit"], f"{output}_wide", to=onnx.TensorProto.FLOAT),
            make("Mul", [f"{output}_wide", f"{output}_scale"], output),
        ]
    replace_nodes(graph, nodes)


def _patches_to_matmul(graph: onnx.GraphProto) -> None:
    """Write a convolution whose kernels lie side by side, as of a ViT's patches, as a product."""
    stored = {tensor.name: tensor for tensor in graph.initializer}
    values = [*graph.input, *graph.value_info]
    shapes = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in values}
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        weights = stored.get(node.input[1]) if node.op_type == "Conv" else None
        grid = None if weights is None else _grid(node, list(weights.dims), shapes)
        if weights is None or grid is None:
            nodes.append(node)
            continue
        nodes += _patch_product(graph, node, numpy_helper.to_array(weights), grid)
    replace_nodes(graph, nodes)


def _grid(
    node: onnx.NodeProto, kernels: Sequence[int], shapes: Mapping[str, Sequence[int]]
) -> tuple[int, int] | None:
    """Rows and columns of the patches that a convolution cuts a whole picture into; None where it does not.

    A picture of 384 pixels has 27 patches of 14 and 6 pixels left over, which no reshaping leaves out.
    """
    picture, grid = (list(shapes.get(name, []))[2:] for name in (node.input[0], node.output[0]))
    if len(grid) != 2 or not all(grid) or not is_tiled(node, kernels):
        return None
    rows, columns = grid
    return (rows, columns) if picture == [rows * kernels[2], columns * kernels[3]] else None


def _patch_product(
    graph: onnx.GraphProto, node: onnx.NodeProto, weights: NDArray[np.float32], size: tuple[int, int]
) -> list[onnx.NodeProto]:
    """[batch, c, rows * h, columns * w] to patches [batch, rows * columns, c * h * w], times the kernels."""
    (n_out, c, h, w), (rows, columns), output = weights.shape, size, node.output[0]

    def shape(what: str, *dims: int) -> str:
        graph.initializer.append(numpy_helper.from_array(np.array(dims, np.int64), f"{output}_{what}"))
        return f"{output}_{what}"

    kernels = np.ascontiguousarray(weights.reshape(n_out, -1).T)
    graph.initializer.append(numpy_helper.from_array(kernels, f"{output}_kernels"))
    cells = shape("cells", -1, c, rows, h, columns, w)
    nodes = [
        make("Reshape", [node.input[0], cells], f"{output}_split"),
        make("Transpose", [f"{output}_split"], f"{output}_gathered", perm=[0, 2, 4, 1, 3, 5]),
        make(
            "Reshape",
            [f"{output}_gathered", shape("flat", -1, rows * columns, c * h * w)],
            f"{output}_patches",
        ),
        make("MatMul", [f"{output}_patches", f"{output}_kernels"], f"{output}_product"),
    ]
    found = f"{output}_product"
    if len(node.input) > 2:
        nodes.append(make("Add", [found, node.input[2]], f"{output}_sum"))
        found = f"{output}_sum"
    nodes.append(make("Transpose", [found], f"{output}_turned", perm=[0, 2, 1]))
    nodes.append(make("Reshape", [f"{output}_turned", shape("map", -1, n_out, rows, columns)], output))
    return nodes
