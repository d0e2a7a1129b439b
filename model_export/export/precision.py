"""A graph made smaller, in 8 bits or in half precision, and measured against fp32."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray

from model_export.export.eight_bit import to_eight_bit
from model_export.export.graph import ExportError
from model_export.export.half import to_half
from service.bundle.manifest import GraphCheck, Precision

COSINE_FLOOR = 0.999
# A graph that is made smaller without being asked for saves at least a quarter. In 8 bits convolutions stay
# as they are, so a tower that is made of them saves less, and is no faster.
WORTHWHILE_SHARE = 0.75

Array = NDArray[np.generic]
_SMALLER: dict[Precision, Callable[[onnx.ModelProto], onnx.ModelProto]] = {
    "int8": to_eight_bit,
    "fp16": to_half,
}


class PrecisionError(ExportError):
    """A smaller graph is too far from fp32, or not smaller."""

    code = "precision"


def reduce_precision(
    path: Path,
    precision: Precision,
    check: GraphCheck,
    batches: Sequence[Mapping[str, Array]],
    largest_share: float = math.inf,
) -> GraphCheck:
    """Replace an fp32 graph by a smaller one that gives nearly the same directions.

    Each row is computed by itself, so that a feature depends on no other row of its batch. Inputs and outputs
    stay as they are.

    Args:
        path: of the fp32 graph, which is replaced if the smaller one passes.
        precision: fp32 leaves it alone.
        check: what was measured of the fp32 graph.
        batches: inputs to compare on; no zero rows of features.
        largest_share: of the size in fp32 that the smaller graph may have.

    Raises:
        PrecisionError: the smallest cosine is below COSINE_FLOOR, or the graph hardly smaller.
    """
    if precision == "fp32":
        return check
    smaller = _SMALLER[precision](onnx.load(str(path))).SerializeToString()
    share = len(smaller) / path.stat().st_size
    if share > largest_share:
        raise PrecisionError(
            f"{path.name} in {precision} would have {share:.0%} of its size in fp32: it is made of "
            "convolutions, which stay as they are."
        )
    cosine = float(
        np.min(np.sum(_features(path, batches) * _features(smaller, batches), axis=1))
    )  # a NaN stays
    if not cosine >= COSINE_FLOOR:
        raise PrecisionError(
            f"{path.name} in {precision} has a cosine of {cosine:.5f} to fp32; {COSINE_FLOOR} is the least."
        )
    path.write_bytes(smaller)
    return check.model_copy(
        update={"precision": precision, "cosine": min(cosine, 1.0), "cosine_floor": COSINE_FLOOR}
    )


def _features(graph: Path | bytes, batches: Sequence[Mapping[str, Array]]) -> NDArray[np.float32]:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    return np.concatenate([session.run(None, dict(batch))[0] for batch in batches])
