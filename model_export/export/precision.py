"""A graph made smaller, in 8 bits or in half precision, and measured against fp32."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray

from model_export.errors import PrecisionError
from model_export.export.eight_bit import to_eight_bit
from model_export.export.half import to_half
from service.bundle.manifest import GraphCheck, Precision

COSINE_FLOOR = 0.999

Array = NDArray[np.generic]
_SMALLER: dict[Precision, Callable[[onnx.ModelProto], onnx.ModelProto]] = {
    "int8": to_eight_bit,
    "fp16": to_half,
}


def reduce_precision(
    path: Path,
    precision: Precision,
    check: GraphCheck,
    batches: Sequence[Mapping[str, Array]],
    cosine_floor: float = COSINE_FLOOR,
) -> GraphCheck:
    """Replace an fp32 graph by a smaller one that gives nearly the same directions.

    Each row is computed by itself, so that a feature depends on no other row of its batch. Inputs and outputs
    stay as they are.

    Args:
        path: of the fp32 graph, which is replaced if the smaller one passes.
        precision: fp32 leaves it alone.
        check: what was measured of the fp32 graph.
        batches: inputs to compare on; no zero rows of features.
        cosine_floor: smallest cosine to fp32 that passes.

    Raises:
        PrecisionError: the smallest cosine is below the floor.
    """
    if precision == "fp32":
        return check
    smaller = _SMALLER[precision](onnx.load(str(path))).SerializeToString()
    pairs = zip(_features(path, batches), _features(smaller, batches), strict=True)
    cosine = float(np.min([np.sum(wide * narrow, axis=1).min() for wide, narrow in pairs]))  # a NaN stays
    if not cosine >= cosine_floor:
        raise PrecisionError(
            f"{path.name} in {precision} has a cosine of {cosine:.5f} to fp32; {cosine_floor} is the minimum."
        )
    path.write_bytes(smaller)
    return check.model_copy(
        update={"precision": precision, "cosine": min(cosine, 1.0), "cosine_floor": cosine_floor}
    )


def _features(graph: Path | bytes, batches: Sequence[Mapping[str, Array]]) -> list[NDArray[np.float32]]:
    """All rows of each output that has features; one of a single column is a number, not a direction."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    outputs = zip(*(session.run(None, dict(batch)) for batch in batches), strict=True)
    rows = [np.concatenate(output) for output in outputs]
    return [features for features in rows if features.shape[1] > 1]
