"""One torch module to one ONNX graph with a dynamic batch axis, checked against torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from model_export.errors import ExportError, ParityError
from model_export.export.graph_rewriting import resize_to_matmul
from model_export.export.quiet_libraries import quiet
from service.bundle.provenance import GraphCheck
from service.runtime.graph import onnxruntime

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

# From 20 on there is Gelu; before it is five operations.
OPSET = 20
MAX_WEIGHTS_BYTES: Final = 2**31 - 2**23
"""What a graph has room for: a file of protocol buffers ends at 2 GiB, and nodes take some of it."""


def export_graph(
    module: nn.Module,
    examples: Mapping[str, Tensor],
    outputs: Sequence[str],
    path: Path,
    *,
    tolerance: float,
    original: nn.Module | None = None,
    further: Sequence[Tensor] = (),
    max_length: int | None = None,
    opset: int = OPSET,
) -> GraphCheck:
    """Write a graph and compare it with torch: on the examples, on the first row alone, and on zeros.

    Zeros are silence and black pictures, where a lost epsilon shows.

    Args:
        module: Takes the examples in order, gives one tensor [batch, dim], or one for each output.
        examples: Tensors [batch, ...] by input name, at least two rows.
        outputs: Names of the outputs.
        path: File to write.
        tolerance: Largest absolute difference that passes.
        original: Module to compare with, where `module` is another form of it.
        further: More batches for a module of one input, compared as well.
        max_length: Where given, the second axis takes any length up to it.
        opset: ONNX opset.

    Returns:
        The measured difference, for the manifest.

    Raises:
        ExportError: torch or onnxruntime can't make or run the graph in this opset, or the graph would be too
            large for a file.
        ParityError: The difference is above the tolerance.
    """
    module = module.eval()
    model = _export(module, examples, outputs, max_length, opset)
    resize_to_matmul(model.graph)
    _save(model, path)
    first = {name: rows[:1] for name, rows in examples.items()}
    zeros = {name: torch.zeros_like(rows) for name, rows in examples.items()}
    batches = [examples, first, zeros, *({name: rows} for name in examples for rows in further)]
    known = module if original is None else original.eval()
    difference = float(np.max(_differences(known, path, batches, outputs)))  # unlike max(), NaN stays
    if not difference <= tolerance:
        raise ParityError(f"{path.name} differs from torch by {difference:.1e}; allowed is {tolerance:.1e}")
    return GraphCheck(difference=difference, tolerance=tolerance)


def _export(
    module: nn.Module,
    examples: Mapping[str, Tensor],
    outputs: Sequence[str],
    max_length: int | None,
    opset: int,
) -> onnx.ModelProto:
    axes = {0: torch.export.Dim("batch")}
    if max_length is not None:
        axes[1] = torch.export.Dim("length", max=max_length)
    try:
        with quiet():  # torch and onnxscript log about their own code; what matters is checked below
            program: Any = torch.onnx.export(
                module,
                tuple(examples.values()),
                input_names=list(examples),
                output_names=list(outputs),
                dynamic_shapes=tuple(dict(axes) for _ in examples),
                opset_version=opset,
                dynamo=True,
                verbose=False,
            )
            model: onnx.ModelProto = program.model_proto
    except Exception as error:  # noqa: BLE001  (the exporter has many kinds)
        raise ExportError(
            f"torch's exporter can't write the module {type(module).__name__}: {_reason(error)}"
        ) from None
    made = {entry.domain: entry.version for entry in model.opset_import}.get("")
    if made != opset:  # torch falls back to its own without an error
        raise ExportError(f"torch's exporter can't write opset {opset}; leave --opset at {OPSET}")
    return model


def _reason(error: BaseException) -> str:
    """What a library says is the first cause, in one line."""
    while error.__cause__ is not None:
        error = error.__cause__
    told, _, _ = str(error).strip().partition("\n")
    return f"{type(error).__name__}: {told}"


@torch.no_grad()
def _differences(
    module: nn.Module, path: Path, batches: Sequence[Mapping[str, Tensor]], outputs: Sequence[str]
) -> list[float]:
    try:
        session = onnxruntime().InferenceSession(path, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise ExportError(f"onnxruntime can't run {path.name}; leave --opset at {OPSET}") from error
    return [_difference(module, session, inputs, outputs) for inputs in batches]


def _difference(
    module: nn.Module,
    session: InferenceSession,
    inputs: Mapping[str, Tensor],
    outputs: Sequence[str],
) -> float:
    """Largest difference; infinite where the graph fails on a batch of this size or gives another shape."""
    wanted = module(*inputs.values())
    try:
        found = session.run(list(outputs), {name: rows.numpy() for name, rows in inputs.items()})
    except Exception:  # noqa: BLE001  (onnxruntime has many kinds)
        return float("inf")
    expected = [one.numpy() for one in ([wanted] if isinstance(wanted, Tensor) else wanted)]
    if [one.shape for one in found] != [one.shape for one in expected]:
        return float("inf")
    return float(np.max([np.abs(one - other).max() for one, other in zip(found, expected, strict=True)]))


def _save(model: onnx.ModelProto, path: Path) -> None:
    """Write the graph with its weights, without file names and line numbers of the exporting machine."""
    del model.metadata_props[:]
    for graph in (model.graph, *model.functions):
        del graph.metadata_props[:]
        for node in graph.node:
            del node.metadata_props[:]
            node.doc_string = ""
    for value in (*model.graph.value_info, *model.graph.input, *model.graph.output):
        del value.metadata_props[:]
    n_bytes = sum(len(tensor.raw_data) for tensor in model.graph.initializer)
    if n_bytes > MAX_WEIGHTS_BYTES:
        raise ExportError(
            f"{path.name} has {n_bytes / 1e9:.2f} GB of weights, and a graph has room for "
            f"{MAX_WEIGHTS_BYTES / 1e9:.2f} GB: choose a smaller model"
        )
    try:
        onnx.checker.check_model(model)
    except (onnx.checker.ValidationError, ValueError) as error:
        raise ExportError(f"{path.name} is no valid graph: {_reason(error)}") from None
    onnx.save_model(model, str(path))
