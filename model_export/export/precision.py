"""A graph made smaller: weights in 8 bits, or all in half precision, measured against fp32."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import numpy_helper
from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST, convert_float_to_float16
from onnxruntime.transformers.onnx_model import OnnxModel

from model_export.export.graph import ExportError
from service.bundle.manifest import GraphCheck, Precision

COSINE_FLOOR = 0.999
_BLOCK = 128

Array = NDArray[np.generic]


def reduce_precision(
    path: Path, precision: Precision, check: GraphCheck, batches: Sequence[Mapping[str, Array]]
) -> GraphCheck:
    """Replace an fp32 graph by a smaller one that gives nearly the same directions.

    int8 keeps activations in fp32 between products and each row by itself, so that a feature depends on no
    other row of its batch, as onnxruntime's dynamic quantisation would have it; products take 8-bit weights
    in blocks of 128, each with a scale. fp16 keeps what leads to the encoder's first convolution
    (normalisation, spectrogram) and all norms in fp32. Inputs and outputs stay as they are.

    Args:
        path: of the fp32 graph, which is replaced.
        precision: fp32 leaves it alone.
        check: what was measured of the fp32 graph.
        batches: inputs to compare on; no zero rows of features.

    Raises:
        ExportError: the smallest cosine is below COSINE_FLOOR.
    """
    if precision == "fp32":
        return check
    before = _features(path, batches)
    onnx.save_model(_SMALLER[precision](onnx.load(str(path))), str(path))
    cosine = float(np.min(np.sum(before * _features(path, batches), axis=1)))  # a NaN stays
    if not cosine >= COSINE_FLOOR:
        raise ExportError(
            f"{path.name} in {precision} has a cosine of {cosine:.5f} to fp32; {COSINE_FLOOR} is the least. "
            f"Keep it in fp32: --precision {path.stem}=fp32"
        )
    return check.model_copy(
        update={"precision": precision, "cosine": min(cosine, 1.0), "cosine_floor": COSINE_FLOOR}
    )


def _features(path: Path, batches: Sequence[Mapping[str, Array]]) -> NDArray[np.float32]:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return np.concatenate([session.run(None, dict(batch))[0] for batch in batches])


def _int8(model: onnx.ModelProto) -> onnx.ModelProto:
    _gemm_to_matmul(model.graph)
    _narrow_tables(model.graph)
    with _own_logging():
        from onnxruntime.quantization import matmul_nbits_quantizer as library

        library.logger.setLevel(logging.WARNING)
    settings = library.DefaultWeightOnlyQuantConfig(
        block_size=_BLOCK, is_symmetric=True, accuracy_level=4, bits=8, op_types_to_quantize=("MatMul",)
    )
    quantizer = library.MatMulNBitsQuantizer(
        model, nodes_to_exclude=_front(model.graph), algo_config=settings
    )
    quantizer.process()
    smaller: onnx.ModelProto = quantizer.model.model
    return smaller


@contextmanager
def _own_logging() -> Iterator[None]:
    """Undo what a library does to everybody's logging when it is imported."""
    handlers, level = logging.root.handlers[:], logging.root.level
    yield
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)


def _fp16(model: onnx.ModelProto) -> onnx.ModelProto:
    last = _ancestors(model.graph, model.graph.output[0].name, until=("MatMul", "Gemm"))
    kept = [*_front(model.graph), *last]
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


_SMALLER: dict[Precision, Callable[[onnx.ModelProto], onnx.ModelProto]] = {"int8": _int8, "fp16": _fp16}


def _front(graph: onnx.GraphProto) -> list[str]:
    """Names of the nodes before the first convolution of the encoder: normalisation, or log-mel spectrogram.

    A spectrogram has convolutions of its own, before its logarithm.
    """
    logarithms = [node for node in graph.node if node.op_type == "Log"]
    front = [name for node in logarithms[:1] for name in (node.name, *_ancestors(graph, node.input[0]))]
    first = [node for node in graph.node if node.op_type == "Conv" and node.name not in front][:1]
    return _ancestors(graph, first[0].input[0]) if first else front


def _ancestors(graph: onnx.GraphProto, value: str, until: tuple[str, ...] = ()) -> list[str]:
    """Names of the nodes that a value is computed by, back to the inputs or to nodes of the given types."""
    made_by = {output: node for node in graph.node for output in node.output}
    found, waiting = [], [value]
    while waiting:
        node = made_by.pop(waiting.pop(), None)
        if node is not None and node.op_type not in until:
            found.append(node.name)
            waiting.extend(node.input)
    return found


def _gemm_to_matmul(graph: onnx.GraphProto) -> None:
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
        nodes.append(_node("MatMul", [rows, f"{node.name}_weights"], product))
        if bias:
            nodes.append(_node("Add", [product, *bias], output))
    _replace(graph, nodes)


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
            _node("Gather", [f"{name}_table", ids], f"{output}_8bit"),
            _node("Gather", [f"{name}_scale", ids], f"{output}_scale"),
            _node("Cast", [f"{output}_8bit"], f"{output}_wide", to=onnx.TensorProto.FLOAT),
            _node("Mul", [f"{output}_wide", f"{output}_scale"], output),
        ]
    _replace(graph, nodes)


def _node(kind: str, inputs: Sequence[str], output: str, **settings: int) -> onnx.NodeProto:
    return onnx.helper.make_node(kind, list(inputs), [output], f"make_{output}", **settings)  # type: ignore[arg-type]


def _replace(graph: onnx.GraphProto, nodes: Sequence[onnx.NodeProto]) -> None:
    """Give the graph these nodes, without the weights that none of them takes."""
    del graph.node[:]
    graph.node.extend(nodes)
    used = {name for node in graph.node for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)
