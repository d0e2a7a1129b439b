"""A graph made smaller, in 8 bits or in half precision, and measured against fp32."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray

from model_export.errors import PrecisionError
from model_export.export.eight_bit import to_eight_bit
from model_export.export.eight_bit_convolutions import Batch
from model_export.export.half import to_half
from service.bundle.provenance import GraphCheck, Precision

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

    Each row is computed by itself, so that a feature depends on no other row of its batch. Inputs and outputs
    stay as they are.

    Args:
        path: of the fp32 graph, which is replaced if the smaller one passes.
        precision: fp32 leaves it alone.
        check: what was measured of the fp32 graph.
        batches: inputs to compare on; no zero rows of features.
        cosine_floor: smallest cosine to fp32 that passes.
        are_typical: whether the batches are like those that the graph will meet, so that the ranges of its
            activations can be measured on them.

    Raises:
        PrecisionError: the smallest cosine is below the floor.
    """
    if precision == "fp32":
        return check
    best = -1.0
    expected = _features(path, batches)
    for candidate in _smaller(path, precision, batches if are_typical else ()):
        smaller = candidate.SerializeToString()
        pairs = zip(expected, _features(smaller, batches), strict=True)
        cosine = float(np.min([np.sum(wide * narrow, axis=1).min() for wide, narrow in pairs]))
        if cosine >= cosine_floor:  # a NaN is not
            path.write_bytes(smaller)
            return check.model_copy(
                update={"precision": precision, "cosine": min(cosine, 1.0), "cosine_floor": cosine_floor}
            )
        best = cosine if np.isnan(cosine) else max(best, cosine)
    raise PrecisionError(
        f"{path.name} in {precision} has a cosine of {best:.5f} to fp32; {cosine_floor} is the minimum."
    )


def _smaller(path: Path, precision: Precision, typical: Sequence[Batch]) -> Iterator[onnx.ModelProto]:
    """Smaller graphs to try, the fastest first."""
    model = onnx.load(str(path))
    if precision == "int8":
        yield from to_eight_bit(model, typical)
    else:
        yield to_half(model)


def _features(graph: Path | bytes, batches: Sequence[Batch]) -> list[NDArray[np.float32]]:
    """All rows of each output that has features; one of a single column is a number, not a direction."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    outputs = zip(*(session.run(None, dict(batch)) for batch in batches), strict=True)
    rows = [np.concatenate(output) for output in outputs]
    return [features for features in rows if features.shape[1] > 1]
