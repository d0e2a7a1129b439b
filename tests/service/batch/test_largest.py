"""The largest batches of a GPU, with graphs that only say they run on one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from service.api.prometheus import Metrics
from service.batch.batched_encoders import Batching, Budgets
from service.encode.encoders import Encoder, Encoders
from service.encode.text import encode_labels
from service.errors import DeviceUnavailableError
from service.labels.label import make_label
from service.registry import load_bundle
from service.runtime.providers import Runtime
from tests.toy import CLASSES


class _Gpu:
    """A graph that says it runs on a GPU, and writes down the shapes that it sees."""

    provider = "CUDAExecutionProvider"

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self.shapes: list[tuple[int, ...]] = []

    def __call__(self, **inputs: NDArray[Any]) -> NDArray[np.float32]:
        (rows,) = inputs.values()
        self.shapes.append(rows.shape)
        return self._encoder(**inputs)


@pytest.fixture
def plain(toy_bundle: Path) -> Encoders:
    """The encoders of the toy bundle as loaded."""
    return load_bundle(toy_bundle, Runtime(device="cpu", n_threads=1)).encoders


def test_the_largest_batches_run_before_the_first_request(plain: Encoders) -> None:
    """Once each; requests then run as they come, never more at once, and their features stay the same."""
    gpus: dict[str, Any] = {
        name: _Gpu(getattr(plain, name)) for name in ("visual", "audio", "text_visual", "text_audio")
    }
    budgets = Budgets(frames=5, windows=3, tokens=100)
    serving = Batching(budgets, Metrics()).wrap(replace(plain, **gpus))
    texts = (plain.manifest.visual.text, plain.manifest.audio.text)
    assert [shape[0] for shape in gpus["visual"].shapes] == [5]
    assert [shape[0] for shape in gpus["audio"].shapes] == [3]
    for name, spec in zip(("text_visual", "text_audio"), texts, strict=True):
        assert gpus[name].shapes == [(100 // spec.context_length, spec.context_length)]
    for n in range(1, 12):
        rows = np.random.default_rng(n).integers(0, 256, (n, 16, 16, 3), np.uint8)
        np.testing.assert_allclose(serving.visual(frames=rows), plain.visual(frames=rows), atol=1e-6)
        labels = [make_label(f"{CLASSES[i % 3]} {'and more ' * i}") for i in range(n)]
        found, alone = encode_labels(serving, labels), encode_labels(plain, labels)
        np.testing.assert_allclose(found.visual, alone.visual, atol=1e-6)
        np.testing.assert_allclose(found.audio, alone.audio, atol=1e-6)
    frames = [shape[0] for shape in gpus["visual"].shapes]
    assert sum(frames[1:]) == sum(range(1, 12))
    assert max(frames) == 5
    assert max(n * length for name in ("text_visual", "text_audio") for n, length in gpus[name].shapes) <= 100


def test_a_shared_text_encoder_runs_once(shared_bundle: Path) -> None:
    """The row of each label runs through it once, for both tracks and nearness."""
    plain = load_bundle(shared_bundle, Runtime(device="cpu", n_threads=1)).encoders
    gpu = _Gpu(plain.text_visual)
    on_gpu: Any = replace(plain, visual=_Gpu(plain.visual), text_visual=gpu, text_audio=gpu)
    serving = Batching(Budgets(frames=2, windows=2, tokens=36), Metrics()).wrap(on_gpu)
    assert [shape[0] for shape in gpu.shapes] == [3]
    gpu.shapes.clear()
    labels = [make_label(name) for name in CLASSES[:2]]
    found, alone = encode_labels(serving, labels), encode_labels(plain, labels)
    assert [shape[0] for shape in gpu.shapes] == [2]
    np.testing.assert_allclose(found.visual, alone.visual, atol=1e-6)
    np.testing.assert_allclose(found.audio, alone.audio, atol=1e-6)
    np.testing.assert_array_equal(found.nearness, alone.nearness)


def test_too_little_gpu_memory_is_reported_at_start(plain: Encoders) -> None:
    """The message names the settings to change; no request has to find out."""
    gpu = _Gpu(plain.visual)

    def full(**inputs: NDArray[Any]) -> NDArray[np.float32]:
        if len(inputs["frames"]) > 4:
            raise RuntimeError("out of memory")
        return plain.visual(**inputs)

    gpu._encoder = full  # type: ignore[assignment]
    with pytest.raises(DeviceUnavailableError, match=r"batches of 6 frames.*AHSE_BATCH_FRAMES"):
        Batching(Budgets(frames=6), Metrics()).wrap(replace(plain, visual=gpu))


def test_nothing_runs_ahead_on_a_cpu(plain: Encoders) -> None:
    """It has the memory of the machine, and would be ready later."""
    cpu = _Gpu(plain.visual)
    cpu.provider = "CPUExecutionProvider"
    Batching(Budgets(frames=8, n_runs=1), Metrics()).wrap(replace(plain, visual=cpu))
    assert cpu.shapes == []
