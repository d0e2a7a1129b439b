"""Which execution providers are asked for, without any of them."""

from __future__ import annotations

import pytest

from service.errors import DeviceUnavailableError
from service.runtime.providers import Device, Runtime, check_provider, choose_providers

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
CPU_BUILD = ["AzureExecutionProvider", CPU]
GPU_BUILD = ["TensorrtExecutionProvider", CUDA, CPU]


def _names(device: Device, available: list[str]) -> list[str]:
    return [name for name, _ in choose_providers(Runtime(device), available)]


@pytest.mark.parametrize(
    ("device", "available", "expected"),
    [
        ("auto", CPU_BUILD, [CPU]),
        ("auto", GPU_BUILD, [CUDA, CPU]),
        ("cpu", GPU_BUILD, [CPU]),
        ("cuda", GPU_BUILD, [CUDA, CPU]),
    ],
)
def test_providers_are_in_order_of_preference(
    device: Device, available: list[str], expected: list[str]
) -> None:
    """CUDA where the build has it, then the CPU for operators that CUDA lacks."""
    assert _names(device, available) == expected


def test_a_device_that_the_build_does_not_support_is_refused() -> None:
    """The message names what to install."""
    with pytest.raises(DeviceUnavailableError, match=r"device cuda .*`gpu` extra"):
        choose_providers(Runtime("cuda"), CPU_BUILD)


@pytest.mark.parametrize(("device", "running"), [("cuda", CPU), ("cpu", CUDA)])
def test_a_fallback_to_another_provider_is_refused(device: Device, running: str) -> None:
    """Running on the CPU without a word would be hard to notice."""
    with pytest.raises(DeviceUnavailableError, match=f"device {device} was asked for, but"):
        check_provider(running, Runtime(device))


@pytest.mark.parametrize(("device", "running"), [("auto", CPU), ("auto", CUDA), ("cuda", CUDA)])
def test_the_configured_provider_is_accepted(device: Device, running: str) -> None:
    """Auto accepts any provider."""
    check_provider(running, Runtime(device))


def test_cuda_is_set_up_for_stable_memory() -> None:
    """No benchmark of each new shape, an arena that grows by what is needed, and a limit where one is set."""
    (_, settings), _ = choose_providers(Runtime("cuda"), GPU_BUILD)
    assert settings == {"cudnn_conv_algo_search": "HEURISTIC", "arena_extend_strategy": "kSameAsRequested"}
    (_, limited), _ = choose_providers(Runtime("cuda", gpu_memory_bytes=2**30), GPU_BUILD)
    assert limited == {**settings, "gpu_mem_limit": "1073741824"}
