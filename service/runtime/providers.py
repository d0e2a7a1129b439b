"""Where graphs run: the execution providers of onnxruntime for a device, and how each is set up."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from service.errors import DeviceUnavailableError

Device = Literal["auto", "cpu", "cuda"]
Provider = tuple[str, dict[str, str]]

CPU = "CPUExecutionProvider"
_CUDA = "CUDAExecutionProvider"
_WANTED = {"cpu": CPU, "cuda": _CUDA}


@dataclass(frozen=True)
class Runtime:
    """How graphs run on this machine: settings of the deployment, not facts of a model."""

    device: Device = "auto"
    n_threads: int = 0
    """intra-op threads of one graph; 0 leaves the choice to onnxruntime."""
    gpu_memory_bytes: int = 0
    """most GPU memory that one graph's arena may take; 0 sets no limit."""


def choose_providers(runtime: Runtime, available: Collection[str]) -> list[Provider]:
    """What to ask onnxruntime for, best first.

    Args:
        runtime: `auto` takes CUDA where it can.
        available: what the installed onnxruntime was built with.

    Raises:
        DeviceUnavailableError: it was not built with what the device takes.
    """
    wanted = _WANTED.get(runtime.device, _CUDA if _CUDA in available else CPU)
    if wanted not in available:
        raise DeviceUnavailableError(
            f"device {runtime.device} was asked for, but the installed onnxruntime has no provider for it; "
            "install the `gpu` extra instead of `cpu`, or set the device to cpu"
        )
    providers: list[Provider] = [(CPU, {})]
    if wanted != CPU:
        providers.insert(0, (_CUDA, _cuda(runtime)))
    return providers


def check_provider(running: str, runtime: Runtime) -> None:
    """Onnxruntime falls back to the CPU without an error when it can't start what was asked for.

    Raises:
        DeviceUnavailableError: that has happened.
    """
    if runtime.device != "auto" and running != _WANTED[runtime.device]:
        raise DeviceUnavailableError(
            f"device {runtime.device} was asked for, but onnxruntime could not start it on this machine; "
            "check the driver, its libraries and that the container was given a GPU, or set the device to cpu"
        )


def _cuda(runtime: Runtime) -> dict[str, str]:
    settings = {
        # EXHAUSTIVE, the default, tunes the convolutions anew at every batch size.
        "cudnn_conv_algo_search": "HEURISTIC",
        # Doubling, the default, takes up to twice what is needed.
        "arena_extend_strategy": "kSameAsRequested",
    }
    if runtime.gpu_memory_bytes:
        settings["gpu_mem_limit"] = str(runtime.gpu_memory_bytes)
    return settings
