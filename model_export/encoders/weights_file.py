"""Weights from a file into a module: nothing in the file can run, and every tensor must fit."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from model_export.errors import EncoderError

# What training scripts store beside tensors: numbers such as the best score, as numpy scalars.
_SCALAR: Any = np.float64(0).__reduce__()[0]
_NUMBERS: list[Any] = [
    np.dtype,
    type(np.dtype(np.float64)),
    type(np.dtype(np.float32)),
    type(np.dtype(np.int64)),
    (_SCALAR, "numpy.core.multiarray.scalar"),  # as numpy 1 called it
    (_SCALAR, "numpy._core.multiarray.scalar"),
]
# Tables that networks compute themselves; older versions of transformers and timm stored them too.
_COMPUTED = ("position_ids", "token_type_ids", "relative_position_index")
_NAMED = 3


def read_state(path: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint: a safetensors file, or one of torch.save, alone or as its `state_dict`.

    Raises:
        EncoderError: The file is of another kind or damaged, or holds more than tensors, numbers and
            containers.
    """
    try:
        content = load_file(path) if path.suffix == ".safetensors" else _unpickle(path)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        raise EncoderError(
            f"{path.name} can't be read as weights: it must be a safetensors file, or one of torch.save that "
            "holds tensors, numbers and containers only (no TorchScript archive, no whole module)"
        ) from error
    inner = content.get("state_dict", content) if isinstance(content, dict) else {}
    tensors = {str(name): value for name, value in inner.items() if isinstance(value, Tensor)}
    if not tensors:
        raise EncoderError(f"{path.name} holds no weights: no tensors by name, at the top or as `state_dict`")
    return {name.removeprefix("module."): value for name, value in tensors.items()}


def load_all(module: nn.Module, state: Mapping[str, Tensor], what: str, source: str) -> None:
    """Load weights into a module; one that is missing, unknown or of another shape is an error.

    Tables that networks compute themselves, such as position ids, do not count as weights.

    Args:
        module: The module.
        state: Tensors by name.
        what: Name of the architecture, for messages.
        source: Name of the file that the tensors are from, for messages.

    Raises:
        EncoderError: The weights differ from the architecture; the message says how, in one line.
    """
    given, wanted = _weights(state), _weights(module.state_dict())
    differences = [
        _listed("missing", [name for name in wanted if name not in given]),
        _listed("not known to it", [name for name in given if name not in wanted]),
        _listed("of another shape", _misshapen(wanted, given)),
    ]
    if any(differences):
        raise EncoderError(
            f"{source} is no {what}: {'; '.join(filter(None, differences))}. "
            "Name the architecture that it was trained with"
        )
    module.load_state_dict(given, strict=False)  # what is not given was excused above


def _weights(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value for name, value in state.items() if not name.endswith(_COMPUTED)}


def _unpickle(path: Path) -> object:
    with torch.serialization.safe_globals(_NUMBERS):
        return torch.load(path, map_location="cpu", weights_only=True)


def _misshapen(wanted: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> list[str]:
    return [
        f"{name} {list(given[name].shape)} instead of {list(value.shape)}"
        for name, value in wanted.items()
        if name in given and given[name].shape != value.shape
    ]


def _listed(kind: str, names: list[str]) -> str:
    if not names:
        return ""
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"{len(names)} weights {kind} ({', '.join(names[:_NAMED])}{more})"
