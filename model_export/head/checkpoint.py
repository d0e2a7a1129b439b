"""Save the whole state of a training stage in one safetensors file, so that a killed run can go on from it.

The file is replaced in one step: at any moment it holds the state after some whole epoch.
"""

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.optim import Adam
from torch.optim.lr_scheduler import ReduceLROnPlateau

from model_export.head.network import HeadNetwork

Weights = dict[str, Tensor]


@dataclass
class Progress:
    """How far a stage has come.

    Attributes:
        history: one record per finished epoch.
        best_epoch: epoch with the highest validation HM so far, -1 before the first.
        best_harmonic: that HM, 0..100.
        best: the weights after that epoch; empty in the second stage, which has no validation.
    """

    history: list[dict[str, Any]] = field(default_factory=list)
    best_epoch: int = -1
    best_harmonic: float = -1.0
    best: Weights = field(default_factory=dict)


def write_atomically(path: Path, text: str) -> None:
    """Write a text file so that no reader ever sees half of it."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)  # noqa: PTH105 - Path.replace is the same call with an older name


def save_tensors(path: Path, tensors: Weights, metadata: dict[str, str] | None = None) -> None:
    """Write a safetensors file so that no reader ever sees half of it."""
    partial = path.with_name(path.name + ".partial")
    save_file(
        {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, partial, metadata
    )
    os.replace(partial, path)  # noqa: PTH105 - as above


def save_checkpoint(
    path: Path, network: HeadNetwork, optimizer: Adam, scheduler: ReduceLROnPlateau, progress: Progress
) -> None:
    """Write everything that the next epoch depends on."""
    tensors = {f"network.{name}": tensor for name, tensor in network.state_dict().items()}
    tensors |= {f"best.{name}": tensor for name, tensor in progress.best.items()}
    for i, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{i}.{name}": tensor for name, tensor in state.items()}
    plain = {key: value for key, value in asdict(progress).items() if key != "best"}
    plain["scheduler"] = scheduler.state_dict()
    plain["lr"] = optimizer.param_groups[0]["lr"]
    save_tensors(path, tensors, {"progress": json.dumps(plain)})


def restore_checkpoint(
    path: Path, network: HeadNetwork, optimizer: Adam, scheduler: ReduceLROnPlateau
) -> Progress:
    """Put a saved state back; a fresh state if there is none."""
    if not path.exists():
        return Progress()
    with safe_open(path, framework="pt") as file:
        plain = json.loads(file.metadata()["progress"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    network.load_state_dict(_under("network.", tensors))
    _restore_optimizer(optimizer, _under("optimizer.", tensors), plain.pop("lr"))
    scheduler.load_state_dict(plain.pop("scheduler"))
    return Progress(**plain, best=_under("best.", tensors))


def _under(prefix: str, tensors: Weights) -> Weights:
    return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}


def _restore_optimizer(optimizer: Adam, flat: Weights, lr: float) -> None:
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in flat.items():
        i, key = name.split(".")
        state.setdefault(int(i), {})[key] = tensor
    whole = optimizer.state_dict()
    whole["state"] = state
    optimizer.load_state_dict(whole)
    optimizer.param_groups[0]["lr"] = lr
