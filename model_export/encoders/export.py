"""Exporting towers: one ONNX graph each, weights inside, with a dynamic batch axis, checked against torch."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import torch
from torch import Tensor, nn

from model_export.encoders.tiny import TinyConfig

OPSET = 18


def example_inputs(config: TinyConfig, n: int, seed: int = 0) -> dict[str, tuple[str, Tensor]]:
    """Random inputs of each tower, as tower name -> (input name, tensor with n rows)."""
    draw = torch.Generator().manual_seed(seed)
    size = config.image_size_px
    tokens = torch.randint(1, config.vocabulary_size, (n, config.context_length), generator=draw)
    tokens[:, config.context_length // 2 :] = 0
    frames = torch.randint(0, 256, (n, size, size, 3), generator=draw, dtype=torch.uint8)
    waveform = torch.randn(n, config.window_samples, generator=draw) * 0.1
    return {
        "visual": ("frames", frames),
        "audio": ("waveform", waveform),
        "text_visual": ("tokens", tokens),
        "text_audio": ("tokens", tokens),
    }


def export_tower(tower: nn.Module, name: str, example: Tensor, path: Path) -> None:
    """Writes a tower as an ONNX graph `name` [batch, ...] -> `features` [batch, dim]."""
    program = torch.onnx.export(
        tower.eval(),
        (example,),
        input_names=[name],
        output_names=["features"],
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        opset_version=OPSET,
        dynamo=True,
        verbose=False,
    )
    if program is None:
        raise RuntimeError("the exporter gave no program")
    model = program.model_proto
    _forget_source(model)
    onnx.checker.check_model(model)
    onnx.save_model(model, str(path))


def _forget_source(model: onnx.ModelProto) -> None:
    """Drops names of files and lines of the exporting machine; nothing runs by them."""
    del model.metadata_props[:]
    for graph in (model.graph, *model.functions):
        del graph.metadata_props[:]
        for node in graph.node:
            del node.metadata_props[:]
            node.doc_string = ""
    for value in (*model.graph.value_info, *model.graph.input, *model.graph.output):
        del value.metadata_props[:]


def export_towers(towers: Mapping[str, nn.Module], config: TinyConfig, folder: Path) -> dict[str, float]:
    """Exports towers as `folder / "{name}.onnx"`; returns each one's largest difference to torch."""
    folder.mkdir(parents=True, exist_ok=True)
    examples = example_inputs(config, 3)
    differences = {}
    for tower_name, tower in towers.items():
        name, example = examples[tower_name]
        path = folder / f"{tower_name}.onnx"
        export_tower(tower, name, example, path)
        differences[tower_name] = max(parity(tower, path, name, rows) for rows in (example, example[:1]))
    return differences


@torch.no_grad()
def parity(tower: nn.Module, path: Path, name: str, example: Tensor) -> float:
    """Largest absolute difference between torch and onnxruntime on an input."""
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    (features,) = session.run(["features"], {name: example.numpy()})
    return float(np.abs(features - tower(example).numpy()).max())
