"""One torch module to one ONNX graph with a dynamic batch axis, checked against torch."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import torch
from torch import Tensor, nn

from service.bundle.manifest import GraphCheck
from service.errors import AhseError

OPSET = 18


class ParityError(AhseError):
    """A graph does not compute what its torch original computes."""

    code = "parity"


def export_graph(
    module: nn.Module, examples: Mapping[str, Tensor], output: str, path: Path, *, tolerance: float
) -> GraphCheck:
    """Write a graph and compare it with torch: on the examples, on the first row alone, and on zeros.

    Zeros are silence and black pictures, where a lost epsilon shows.

    Args:
        module: takes the examples in order, gives one tensor [batch, dim].
        examples: input name -> tensor [batch, ...], at least two rows.
        output: name of the output.
        path: where to write.
        tolerance: largest absolute difference that passes.

    Returns:
        What was measured, for the manifest.

    Raises:
        ParityError: the difference is above the tolerance.
    """
    module = module.eval()
    _save(_export(module, examples, output), path)
    first = {name: rows[:1] for name, rows in examples.items()}
    zeros = {name: torch.zeros_like(rows) for name, rows in examples.items()}
    differences = [_difference(module, path, rows, output) for rows in (examples, first, zeros)]
    difference = float(np.max(differences))  # unlike max(), it lets no NaN slip through
    if not difference <= tolerance:
        raise ParityError(f"{path.name} differs from torch by {difference:.1e}; allowed is {tolerance:.1e}")
    return GraphCheck(difference=difference, tolerance=tolerance)


def _export(module: nn.Module, examples: Mapping[str, Tensor], output: str) -> onnx.ModelProto:
    batch = torch.export.Dim("batch")
    with warnings.catch_warnings():
        # All inputs share one batch axis, on purpose; torch warns once for each further input.
        warnings.filterwarnings("ignore", message="# The axis name: batch will not be used")
        program = torch.onnx.export(
            module,
            tuple(examples.values()),
            input_names=list(examples),
            output_names=[output],
            dynamic_shapes=tuple({0: batch} for _ in examples),
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    if program is None:
        raise ParityError("torch's exporter gave no program")
    return program.model_proto


@torch.no_grad()
def _difference(module: nn.Module, path: Path, inputs: Mapping[str, Tensor], output: str) -> float:
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    (found,) = session.run([output], {name: rows.numpy() for name, rows in inputs.items()})
    return float(np.abs(found - module(*inputs.values()).numpy()).max())


def _save(model: onnx.ModelProto, path: Path) -> None:
    """Write the graph, weights inside, without the names of the exporting machine's files and lines."""
    del model.metadata_props[:]
    for graph in (model.graph, *model.functions):
        del graph.metadata_props[:]
        for node in graph.node:
            del node.metadata_props[:]
            node.doc_string = ""
    for value in (*model.graph.value_info, *model.graph.input, *model.graph.output):
        del value.metadata_props[:]
    onnx.checker.check_model(model)
    onnx.save_model(model, str(path))
