"""A graph with weights in 8 bits; rows of a batch are quantised independently.

onnxruntime's own dynamic quantisation has one scale for a whole batch, so that a clip's feature would depend
on its neighbours. The schemes here have one scale for each row or part of a row, or quantise weights alone.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
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
from model_export.export.quiet_libraries import quiet
from service.runtime.graph import onnxruntime

# Numbers in a block share a scale in text graphs.
_BLOCK = 128
# Levels on each side of zero. Processors without VNNI add pairs of products u8 x i8 in 16 bits:
# 2 x (2 x 90) x 90 still fits, so that the same graph gives the same numbers everywhere.
_LEVELS = 90
_ZERO, _ONE, _MOST, _LEAST = "eight_bit_zero", "eight_bit_one", "eight_bit_levels", "eight_bit_least"
_LAST_AXIS = "eight_bit_last_axis"


def to_eight_bit(model: onnx.ModelProto, typical: Sequence[Batch] = ()) -> Iterator[onnx.ModelProto]:
    """Smaller forms of the graph, the fastest first; the caller takes the first that is close enough to fp32.

    - Text graphs: weights and activations in 8 bits, in blocks. This is closest to fp32, and speed matters
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
    yield _narrow_weights(model) if kind == onnx.TensorProto.INT64 else _narrow_products(model)


def _narrow_products(model: onnx.ModelProto) -> onnx.ModelProto:
    """Write each product with stored weights as a product of integers.

    x W = (x_max / n) (w_max / n) (q_x - zero) q_w, with n levels on each side of zero: q_x is x scaled by the
    largest magnitude x_max of its row, q_w is W scaled by the largest magnitude w_max of its column.
    """
    graph, nodes = model.graph, list[onnx.NodeProto]()
    stored = {tensor.name: tensor for tensor in graph.initializer}
    kept = set(front(graph))
    for node in graph.node:
        weights = stored.get(node.input[1]) if node.op_type == "MatMul" and node.name not in kept else None
        if weights is None or len(weights.dims) != 2:
            nodes.append(node)
            continue
        values, scale = _levels(numpy_helper.to_array(weights), axis=0)
        product = node.output[0]
        graph.initializer.append(numpy_helper.from_array(values, f"{product}_weights"))
        graph.initializer.append(numpy_helper.from_array((scale / _LEVELS)[0], f"{product}_scale"))
        nodes += _row_product(node.input[0], product)
    constants: dict[str, Any] = {
        _ZERO: np.uint8(_LEVELS),
        _ONE: np.float32(1),
        _MOST: np.float32(_LEVELS),
        _LEAST: np.float32(1e-12),
        _LAST_AXIS: np.array([-1], np.int64),
    }
    graph.initializer.extend(numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items())
    replace_nodes(graph, nodes)
    if all(entry.domain != "com.microsoft" for entry in model.opset_import):
        model.opset_import.append(onnx.helper.make_opsetid("com.microsoft", 1))
    return model


def _row_product(rows: str, product: str) -> list[onnx.NodeProto]:
    """The nodes of one product; `{product}_weights` and `{product}_scale` are stored."""

    def at(what: str) -> str:
        return f"{product}_{what}"

    integers = [at("levels"), at("weights"), _ONE, at("scale"), _ZERO]
    return [
        make("Abs", [rows], at("magnitude")),
        make("ReduceMax", [at("magnitude"), _LAST_AXIS], at("row_max"), keepdims=1),
        make("Max", [at("row_max"), _LEAST], at("row_scale")),
        make("Div", [_MOST, at("row_scale")], at("factor")),
        make("Mul", [rows, at("factor")], at("scaled")),
        make("QuantizeLinear", [at("scaled"), _ONE, _ZERO], at("levels")),
        make("MatMulIntegerToFloat", integers, at("sums"), domain="com.microsoft"),
        make("Div", [at("row_scale"), _MOST], at("unscale")),
        make("Mul", [at("sums"), at("unscale")], product),
    ]


def _levels(values: NDArray[np.float32], axis: int) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Integers up to _LEVELS, and the largest magnitude along an axis, which is kept with length 1."""
    largest = np.maximum(np.abs(values).max(axis=axis, keepdims=True), np.float32(1e-12))
    return np.rint(values / largest * _LEVELS).astype(np.int8), largest.astype(np.float32)


def _narrow_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """Weights in 8 bits, in blocks with a scale each; so are activations in a product (accuracy level 4)."""
    _narrow_tables(model.graph)
    onnxruntime()  # set up before any part of it is imported
    with quiet():
        from onnxruntime.quantization import matmul_nbits_quantizer as library

        library.logger.setLevel(logging.WARNING)
    settings = library.DefaultWeightOnlyQuantConfig(
        block_size=_BLOCK, is_symmetric=True, accuracy_level=4, bits=8, op_types_to_quantize=("MatMul",)
    )
    quantizer = library.MatMulNBitsQuantizer(model, nodes_to_exclude=front(model.graph), algo_config=settings)
    quantizer.process()
    smaller: onnx.ModelProto = quantizer.model.model
    return smaller


def _narrow_tables(graph: onnx.GraphProto) -> None:
    """Store embedding tables in 8 bits with a scale for each row; the quantiser knows them in 4 bits only."""
    stored = {tensor.name: tensor for tensor in graph.initializer}
    nodes = []
    for node in graph.node:
        table = stored.get(node.input[0]) if node.op_type == "Gather" else None
        if table is None or len(table.dims) != 2 or table.data_type != onnx.TensorProto.FLOAT:
            nodes.append(node)
            continue
        values = numpy_helper.to_array(table)
        scale = np.maximum(np.abs(values).max(axis=1, keepdims=True) / 127, np.float32(1e-12))
        ids, output, name = node.input[1], node.output[0], node.name
        graph.initializer.append(
            numpy_helper.from_array(np.rint(values / scale).astype(np.int8), f"{name}_table")
        )
        graph.initializer.append(numpy_helper.from_array(scale.astype(np.float32), f"{name}_scale"))
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
    shapes = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in graph.value_info}
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        weights = stored.get(node.input[1]) if node.op_type == "Conv" else None
        size = shapes.get(node.output[0], [])[2:]
        if weights is None or len(size) != 2 or not all(size) or not is_tiled(node, list(weights.dims)):
            nodes.append(node)
            continue
        nodes += _patch_product(graph, node, numpy_helper.to_array(weights), (size[0], size[1]))
    replace_nodes(graph, nodes)


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
