"""A graph made smaller, in 8 bits or in half precision, and compared with fp32."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from model_export.errors import PrecisionError
from model_export.export.eight_bit import to_eight_bit
from model_export.export.eight_bit_convolutions import Batch
from model_export.export.graph_rewriting import ancestors, front
from service.bundle.provenance import GraphCheck, Precision
from service.runtime.graph import onnxruntime

COSINE_FLOOR = 0.999


def reduce_precision(
    path: Path,
    precision: Precision,
    check: GraphCheck,
    batches: Sequence[Batch],
    cosine_floor: float = COSINE_FLOOR,
    *,
    are_typical: bool = False,
) -> GraphCheck:
    """Replace an fp32 graph by a smaller one that gives nearly the same directions.

    Rows are quantised independently, so that a feature depends on no other row of its batch. Inputs and
    outputs keep their types.

    Args:
        path: The fp32 graph, which is replaced if the smaller one passes.
        precision: The precision; fp32 changes nothing.
        check: The check of the fp32 graph.
        batches: Inputs to compare on, none of which gives features of zeros.
        cosine_floor: Smallest cosine to fp32 that passes.
        are_typical: Whether the batches are like those of real use, so that the ranges of activations can be
            measured on them.

    Returns:
        The check with precision and cosine, for the manifest.

    Raises:
        PrecisionError: The smallest cosine is below the floor, or onnxruntime can't run the smaller graph.
    """
    if precision == "fp32":
        return check
    best: float | None = None
    expected = _features(path, batches)
    for candidate in _smaller(path, precision, batches if are_typical else ()):
        smaller = candidate.SerializeToString()
        cosine = _smallest_cosine(expected, smaller, batches)
        if cosine is None:
            continue
        if cosine >= cosine_floor:  # a NaN is not
            path.write_bytes(smaller)
            return check.model_copy(
                update={"precision": precision, "cosine": min(cosine, 1.0), "cosine_floor": cosine_floor}
            )
        best = cosine if best is None or np.isnan(cosine) else max(best, cosine)
    what = "can't be run by onnxruntime"
    if best is not None:
        what = f"has a cosine of {best:.5f} to fp32; {cosine_floor} is the minimum"
    raise PrecisionError(f"{path.name} in {precision} {what}.")


def _smaller(path: Path, precision: Precision, typical: Sequence[Batch]) -> Iterator[onnx.ModelProto]:
    """Smaller graphs to try, the fastest first."""
    model = onnx.load(str(path))
    if precision == "int8":
        yield from to_eight_bit(model, typical)
    else:
        yield to_half(model)


def _smallest_cosine(
    expected: Sequence[NDArray[np.float32]], graph: bytes, batches: Sequence[Batch]
) -> float | None:
    """The smallest cosine of a row to the expected one; None where onnxruntime can't run the graph."""
    try:
        found = _features(graph, batches)
    except Exception:  # noqa: BLE001  (onnxruntime has many kinds)
        return None
    pairs = zip(expected, found, strict=True)
    return float(np.min([_cosines(wide, narrow).min() for wide, narrow in pairs]))


def _features(graph: Path | bytes, batches: Sequence[Batch]) -> list[NDArray[np.float32]]:
    """All rows of each output with features; an output of one column is a number, not a direction."""
    options = onnxruntime().SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime().InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    outputs = zip(*(session.run(None, dict(batch)) for batch in batches), strict=True)
    rows = [np.concatenate(output) for output in outputs]
    return [features for features in rows if features.shape[1] > 1]


def _cosines(wide: NDArray[np.float32], narrow: NDArray[np.float32]) -> NDArray[np.float64]:
    """Cosine of each row [n, d] to the same row of the other: [n]; 0 to a row of zeros."""
    a, b = wide.astype(np.float64), narrow.astype(np.float64)
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    cosines: NDArray[np.float64] = np.sum(a * b, axis=1) / np.maximum(lengths, 1e-12)
    return cosines


def to_half(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph in fp16, except inputs, outputs, norms and what leads to the first convolution."""
    onnxruntime()  # set up before any part of it is imported
    from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST, convert_float_to_float16
    from onnxruntime.transformers.onnx_model import OnnxModel

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
    drop_repeated_casts(smaller.model.graph)
    _stay_wide(smaller.model.graph, set(kept))
    smaller.prune_graph()
    smaller.topological_sort()
    narrowed: onnx.ModelProto = smaller.model
    return narrowed


def drop_repeated_casts(graph: onnx.GraphProto) -> None:
    """Keep one of several casts that make the same value.

    The converter of onnxruntime before 1.32 widens a weight once for each node that reads it, all under one
    name.
    """
    made: set[str] = set()
    nodes = []
    for node in graph.node:
        if node.op_type != "Cast" or made.isdisjoint(node.output):
            nodes.append(node)
        made.update(node.output)
    del graph.node[:]
    graph.node.extend(nodes)


def _stay_wide(graph: onnx.GraphProto, kept: set[str]) -> None:
    """Join nodes that stay in fp32 directly; the converter narrows and widens what passes between them."""
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
