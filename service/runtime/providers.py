"""Execution providers: which of onnxruntime's a device needs, and how each is configured."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from service.errors import DeviceUnavailableError

Device = Literal["auto", "cpu", "cuda"]
Provider = tuple[str, dict[str, str]]

CPU = "CPUExecutionProvider"
_CUDA = "CUDAExecutionProvider"
USABLE = (_CUDA, CPU)
_WANTED = {"cpu": CPU, "cuda": _CUDA}


@dataclass(frozen=True)
class Runtime:
    """How graphs run on this machine: settings of the deployment, not facts of a model.

    Attributes:
        device: `auto` uses a GPU where onnxruntime can.
        n_threads: Threads within one run of a graph on a CPU; 0 leaves the choice to onnxruntime.
        gpu_memory_bytes: Maximum GPU memory of the arena of one graph; 0 sets no limit.
    """

    device: Device = "auto"
    n_threads: int = 0
    gpu_memory_bytes: int = 0


def choose_providers(runtime: Runtime, available: Collection[str]) -> list[Provider]:
    """Providers to request from onnxruntime, in order of preference.

    Args:
        runtime: The device that is wanted, and its limits.
        available: Providers that the installed onnxruntime was built with.

    Raises:
        DeviceUnavailableError: The device needs a provider that is not among them.
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
    """Check that a session runs where it should: onnxruntime falls back to the CPU without any error.

    Args:
        running: The provider that the session uses.
        runtime: The device that is wanted.

    Raises:
        DeviceUnavailableError: The session runs on another device.
    """
    if runtime.device != "auto" and running != _WANTED[runtime.device]:
        raise DeviceUnavailableError(
            f"device {runtime.device} was asked for, but onnxruntime could not start it on this machine; "
            "check the driver, its libraries and that the container was given a GPU, or set the device to cpu"
        )


def _cuda(runtime: Runtime) -> dict[str, str]:
    settings = {
        # The default, EXHAUSTIVE, benchmarks the convolutions again for every new batch size.
        "cudnn_conv_algo_search": "HEURISTIC",
        # The default doubles the arena each time, which takes up to twice the memory needed.
        "arena_extend_strategy": "kSameAsRequested",
    }
    if runtime.gpu_memory_bytes:
        settings["gpu_mem_limit"] = str(runtime.gpu_memory_bytes)
    return settings
