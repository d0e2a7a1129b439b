"""A graph in half precision."""

from __future__ import annotations

import onnx
from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST, convert_float_to_float16
from onnxruntime.transformers.onnx_model import OnnxModel

from model_export.export.rewrite import ancestors, front


def to_half(model: onnx.ModelProto) -> onnx.ModelProto:
    """All in fp16 but inputs, outputs, norms and what leads to the first convolution."""
    last = ancestors(model.graph, model.graph.output[0].name, until=("MatMul", "Gemm"))
    kept = [*front(model.graph), *last]
    smaller = OnnxModel(
        convert_float_to_float16(
            model,
            keep_io_types=True,
            # Half-precision norms lose digits, and onnxruntime 1.32 crashes when it opens CLIP's on a CPU.
            op_block_list=[*DEFAULT_OP_BLOCK_LIST, "LayerNormalization"],
            node_block_list=kept,
        )
    )
    _stay_wide(smaller.model.graph, set(kept))
    smaller.prune_graph()
    smaller.topological_sort()
    narrowed: onnx.ModelProto = smaller.model
    return narrowed


def _stay_wide(graph: onnx.GraphProto, kept: set[str]) -> None:
    """Join kept nodes directly: the converter narrows every result and widens it again for the next."""
    made_by = {output: node for node in graph.node for output in node.output}
    direct = {}
    for node in graph.node:
        narrowed = made_by.get(node.input[0]) if node.op_type == "Cast" else None
        source = made_by.get(narrowed.input[0]) if narrowed is not None else None
        if narrowed is not None and narrowed.op_type == "Cast" and source is not None and source.name in kept:
            direct[node.output[0]] = narrowed.input[0]
    for node in graph.node:
        if node.name in kept:
            node.input[:] = [direct.get(name, name) for name in node.input]
