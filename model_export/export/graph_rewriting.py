"""Steps of graph rewriting that the smaller precisions share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch.nn.functional import interpolate


def front(graph: onnx.GraphProto) -> list[str]:
    """Names of the nodes before the first convolution of the encoder: normalisation, or log-mel spectrogram.

    A spectrogram has convolutions of its own, before its logarithm.
    """
    logarithms = [node for node in graph.node if node.op_type == "Log"]
    front = [name for node in logarithms[:1] for name in (node.name, *ancestors(graph, node.input[0]))]
    first = [node for node in graph.node if node.op_type == "Conv" and node.name not in front][:1]
    return ancestors(graph, first[0].input[0]) if first else front


def ancestors(graph: onnx.GraphProto, value: str, until: tuple[str, ...] = ()) -> list[str]:
    """Names of the nodes that a value is computed by, back to the inputs or to nodes of the given types."""
    made_by = {output: node for node in graph.node for output in node.output}
    found, waiting = [], [value]
    while waiting:
        node = made_by.pop(waiting.pop(), None)
        if node is not None and node.op_type not in until:
            found.append(node.name)
            waiting.extend(node.input)
    return found


def gemm_to_matmul(graph: onnx.GraphProto) -> None:
    """Write each Gemm with stored weights as MatMul (and Add), the only product that the quantiser knows."""
    stored = {tensor.name: tensor for tensor in graph.initializer}
    nodes = []
    for node in graph.node:
        settings = {entry.name: onnx.helper.get_attribute_value(entry) for entry in node.attribute}
        plain = settings.get("alpha", 1.0) == settings.get("beta", 1.0) == 1.0 and not settings.get("transA")
        if node.op_type != "Gemm" or node.input[1] not in stored or not plain:
            nodes.append(node)
            continue
        weights = numpy_helper.to_array(stored[node.input[1]])
        weights = np.ascontiguousarray(weights.T) if settings.get("transB") else weights
        rows, bias, output = node.input[0], node.input[2:], node.output[0]
        product = f"{output}_product" if bias else output
        graph.initializer.append(numpy_helper.from_array(weights, f"{node.name}_weights"))
        nodes.append(make("MatMul", [rows, f"{node.name}_weights"], product))
        if bias:
            nodes.append(make("Add", [product, *bias], output))
    replace_nodes(graph, nodes)


def resize_to_matmul(graph: onnx.GraphProto) -> None:
    """Write a bicubic resizing of one axis, the last but one, as a product with a stored matrix.

    onnxruntime looks at the sixteen neighbours of each point, which takes several times as long.
    """
    values = [*graph.input, *graph.value_info]
    shapes = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in values}
    nodes = list(graph.node)
    for place, node in enumerate(nodes):
        if not _is_bicubic(node):
            continue
        before, after = (shapes.get(name, [])[-2:] for name in (node.input[0], node.output[0]))
        if not (len(before) == len(after) == 2 and all(before + after) and before[1] == after[1]):
            continue
        unit, size = torch.eye(before[0])[None, None], (after[0], before[0])
        weights = interpolate(unit, size, mode="bicubic", align_corners=True)[0, 0].numpy()
        name = f"{node.output[0]}_weights"
        graph.initializer.append(numpy_helper.from_array(weights, name))
        nodes[place] = make("MatMul", [name, node.input[0]], node.output[0])
    if nodes != list(graph.node):
        replace_nodes(graph, nodes)


def _is_bicubic(node: onnx.NodeProto) -> bool:
    """Whether it resizes as torch does with mode="bicubic" and align_corners=True."""
    settings = {entry.name: onnx.helper.get_attribute_value(entry) for entry in node.attribute}
    is_plain = settings.get("cubic_coeff_a") == -0.75 and not settings.get("antialias")
    corners = settings.get("coordinate_transformation_mode") == b"align_corners"
    return node.op_type == "Resize" and settings.get("mode") == b"cubic" and is_plain and corners


def make(kind: str, inputs: Sequence[str], output: str, domain: str = "", **settings: Any) -> onnx.NodeProto:
    """A node of one output, named after it."""
    return onnx.helper.make_node(kind, list(inputs), [output], f"make_{output}", domain=domain, **settings)


def replace_nodes(graph: onnx.GraphProto, nodes: Sequence[onnx.NodeProto]) -> None:
    """Give the graph these nodes, without the weights that none of them takes."""
    del graph.node[:]
    graph.node.extend(nodes)
    used = {name for node in graph.node for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)
