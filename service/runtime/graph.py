"""One ONNX graph on onnxruntime. No other file of the service imports onnxruntime."""

from __future__ import annotations

import functools
import mmap
import os
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from service.errors import BundleInvalidError
from service.process import has_vnni
from service.runtime.providers import CPU, Runtime, check_provider, choose_providers

if TYPE_CHECKING:
    from onnxruntime import SessionOptions

Inputs = dict[str, tuple[str, tuple[int | None, ...]]]
"""Input name -> (dtype, shape after the batch axis); None in a shape is an axis of any length."""

_DTYPES = {"uint8": np.uint8, "float": np.float32, "int64": np.int64}
_SETTING_UP = threading.Lock()
# Length of the trial rows for an axis of any length.
_TRIAL_LENGTH = 4


def onnxruntime() -> Any:
    """The onnxruntime module, imported and set up at the first call. Thread-safe."""
    with _SETTING_UP:
        return _set_up()


@functools.cache
def _set_up() -> Any:
    # Some builds send telemetry: at import they look up a host and write a device id, so the variable must be
    # set before the import.
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    import onnxruntime as ort

    ort.disable_telemetry_events()
    # One arena shared by all graphs on the CPU: with an arena each, every graph would hold on to the memory
    # of its largest batch.
    memory = ort.OrtMemoryInfo("Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT)
    ort.create_and_register_allocator(memory, None)
    return ort


def available_providers() -> list[str]:
    """Execution providers that the installed onnxruntime was built with."""
    return list(onnxruntime().get_available_providers())


@dataclass(frozen=True)
class Axes:
    """Inputs and outputs that a graph must have.

    Attributes:
        inputs: Dtype and shape of each input.
        outputs: Output name -> dim, float32 [batch, dim] each.
    """

    inputs: Inputs
    outputs: dict[str, int]


class Graph:
    """A graph that was checked and run once. Thread-safe: a session may run in several threads at once.

    Args:
        path: The ONNX file.
        axes: Inputs and outputs that it must have.
        runtime: Where and with how many threads it runs.

    Raises:
        BundleInvalidError: The file is no such graph, or it can't be run.
        DeviceUnavailableError: The device of `runtime` can't be used.
    """

    def __init__(self, path: Path, axes: Axes, runtime: Runtime) -> None:
        self.path = path
        self._axes = axes
        providers = choose_providers(runtime, available_providers())
        if not (on_cpu := providers[0][0] == CPU):
            # The CUDA libraries come as packages beside onnxruntime-gpu, not from the system.
            onnxruntime().preload_dlls()
        try:
            options = _options(runtime, fuses_all=not on_cpu or _has_products_in_blocks(path))
            self._session = onnxruntime().InferenceSession(path, options, providers)
        except Exception as error:
            raise BundleInvalidError(f"onnxruntime can't run {path.name}") from error
        check_provider(self.provider, runtime)
        self._check_axes()
        self._run_trial()

    @property
    def provider(self) -> str:
        """The execution provider that runs the graph, as onnxruntime names it."""
        return str(self._session.get_providers()[0])

    def __call__(self, **inputs: NDArray[Any]) -> NDArray[np.float32]:
        """Run on named inputs [batch, ...]; returns the outputs concatenated, float32 [batch, n]."""
        outputs: list[NDArray[np.float32]] = self._session.run(list(self._axes.outputs), inputs)
        return outputs[0] if len(outputs) == 1 else np.concatenate(outputs, axis=1)

    def _run_trial(self) -> None:
        """Run once on zeros, so that a broken graph is found now and the first request meets a warm one."""
        zeros = {
            name: np.zeros((2, *(length or _TRIAL_LENGTH for length in shape)), _DTYPES[kind])
            for name, (kind, shape) in self._axes.inputs.items()
        }
        try:
            output = self(**zeros)
        except Exception as error:
            raise BundleInvalidError(f"{self.path.name} can't be run") from error
        if output.shape != (2, sum(self._axes.outputs.values())) or not np.isfinite(output).all():
            raise BundleInvalidError(
                f"{self.path.name} gives numbers that are not finite, or too many of them"
            )

    def _check_axes(self) -> None:
        found = {node.name: (node.type, tuple(node.shape)) for node in self._session.get_inputs()}
        if found.keys() != self._axes.inputs.keys():
            raise BundleInvalidError(
                f"{self.path.name} takes inputs {sorted(found)}, not {sorted(self._axes.inputs)}"
            )
        for name, (dtype, shape) in self._axes.inputs.items():
            _check_input(self.path.name, name, found[name], dtype, shape)
        outputs = {node.name: tuple(node.shape) for node in self._session.get_outputs()}
        for name, dim in self._axes.outputs.items():
            if outputs.get(name, ())[-1:] != (dim,):
                raise BundleInvalidError(f"{self.path.name} gives {outputs}, not {name} [batch, {dim}]")


def _check_input(
    file: str, name: str, found: tuple[str, tuple[Any, ...]], dtype: str, shape: tuple[int | None, ...]
) -> None:
    # onnxruntime reports an axis of any length by its name, or as None when it has none.
    fixed = tuple(length if isinstance(length, int) else None for length in found[1][1:])
    if found[0] != f"tensor({dtype})" or fixed != shape:
        raise BundleInvalidError(
            f"{file}: input {name} is {found[0]} {list(found[1])}, the manifest says {dtype} [batch, "
            f"{', '.join(str(length or 'any') for length in shape)}]"
        )
    if isinstance(found[1][0], int):
        raise BundleInvalidError(f"{file}: the batch axis of {name} is fixed to {found[1][0]}")


def _has_products_in_blocks(path: Path) -> bool:
    """Whether it quantises activations in blocks, as older exports do: rounding before that moves answers."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return content.find(b"MatMulNBits") >= 0


def _options(runtime: Runtime, *, fuses_all: bool) -> SessionOptions:
    options = onnxruntime().SessionOptions()
    options.intra_op_num_threads = runtime.n_threads
    # Threads that spin while idle would take the cores that decoding needs.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.use_env_allocators", "1")
    if not has_vnni():
        # Without VNNI sums of products u8 x i8 saturate at 16 bits; u8 x u8 is exact but takes twice as long.
        options.add_session_config_entry("session.x64quantprecision", "1")
    if not fuses_all:
        # On a CPU these two take longer than the steps that they join: with the layer norm, twice as long.
        fusions = "SkipLayerNormFusion;BiasGeluFusion"
        options.add_session_config_entry("optimization.disable_specified_optimizers", fusions)
    options.log_severity_level = 3
    return options
