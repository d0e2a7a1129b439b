"""The state of a training stage in one safetensors file, from which a killed run continues."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor
from torch.optim import Adam
from torch.optim.lr_scheduler import ReduceLROnPlateau

from model_export.errors import RunError
from model_export.head.network import HeadNetwork
from model_export.head.run_folder import Record, Weights, save_tensors


@dataclass
class StageState:
    """How far a stage has come.

    Attributes:
        history: One record per finished epoch.
        best_epoch: Epoch with the highest validation HM so far, -1 before the first.
        best_harmonic: That HM, 0..100.
        best: The weights after that epoch; empty in the second stage, which has no validation.
    """

    history: list[Record] = field(default_factory=list)
    best_epoch: int = -1
    best_harmonic: float = -1.0
    best: Weights = field(default_factory=dict)


def save_checkpoint(
    path: Path, network: HeadNetwork, optimizer: Adam, scheduler: ReduceLROnPlateau, state: StageState
) -> None:
    """Write everything that the next epoch depends on."""
    tensors = {f"network.{name}": tensor for name, tensor in network.state_dict().items()}
    tensors |= {f"best.{name}": tensor for name, tensor in state.best.items()}
    for i, moments in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{i}.{name}": tensor for name, tensor in moments.items()}
    plain = {key: value for key, value in asdict(state).items() if key != "best"}
    plain["scheduler"] = scheduler.state_dict()
    plain["lr"] = optimizer.param_groups[0]["lr"]
    save_tensors(path, tensors, {"progress": json.dumps(plain)})


def restore_checkpoint(
    path: Path, network: HeadNetwork, optimizer: Adam, scheduler: ReduceLROnPlateau
) -> StageState:
    """Restore a saved state into its parts; a fresh state where there is none.

    Raises:
        RunError: The file is damaged, or can't be read.
    """
    if not path.exists():
        return StageState()
    try:
        return _restore(path, network, optimizer, scheduler)
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise RunError(
            f"{path} is damaged or can't be read; remove it, and the same command trains this stage anew"
        ) from error


def _restore(path: Path, network: HeadNetwork, optimizer: Adam, scheduler: ReduceLROnPlateau) -> StageState:
    with safe_open(path, framework="pt") as file:
        plain = json.loads(file.metadata()["progress"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    network.load_state_dict(_under("network.", tensors))
    _restore_optimizer(optimizer, _under("optimizer.", tensors), plain.pop("lr"))
    scheduler.load_state_dict(plain.pop("scheduler"))
    return StageState(**plain, best=_under("best.", tensors))


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
