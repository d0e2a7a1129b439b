"""Rows padded to a few shapes; the graph itself, on what was not padded, is the oracle."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from service.api.prometheus import Metrics
from service.batch.batched_encoders import Budgets, batched
from service.batch.padded import Padded, batch_sizes, padded
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


@pytest.mark.parametrize("n", [1, 3, 4, 5, 6, 7, 15])
def test_padding_does_not_change_features(plain: Encoders, n: int) -> None:
    """More rows than the largest size run in several batches."""
    rows = np.random.default_rng(n).integers(0, 256, (n, 16, 16, 3), np.uint8)
    gpu = _Gpu(plain.visual)
    found = Padded(gpu, (1, 4, 6))(frames=rows)
    np.testing.assert_allclose(found, plain.visual(frames=rows), atol=1e-6)
    assert {shape[0] for shape in gpu.shapes} <= {1, 4, 6}


@given(most=st.integers(1, 5_000))
def test_at_most_a_third_of_a_batch_is_padding(most: int) -> None:
    """There is a size for every number of rows, and there are few sizes."""
    sizes = batch_sizes(most)
    assert sizes[0] == 1
    assert sizes[-1] == most
    assert list(sizes) == sorted(set(sizes))
    assert len(sizes) <= 2 * most.bit_length()
    assert all(3 * (before + 1) >= 2 * size for before, size in pairwise(sizes))


def test_no_new_shape_runs_after_the_warm_up(plain: Encoders) -> None:
    """The warm-up covers every shape that a request can lead to, and features stay the same."""
    gpus: dict[str, Any] = {
        name: _Gpu(getattr(plain, name)) for name in ("visual", "audio", "text_visual", "text_audio")
    }
    serving = batched(replace(plain, **gpus), Budgets(frames=5, windows=3, tokens=100), Metrics())
    warm = {name: set(gpu.shapes) for name, gpu in gpus.items()}
    assert {shape[0] for shape in warm["visual"]} == {1, 2, 3, 4, 5}
    assert {shape[0] for shape in warm["audio"]} == {1, 2, 3}
    for n in range(1, 12):
        rows = np.random.default_rng(n).integers(0, 256, (n, 16, 16, 3), np.uint8)
        np.testing.assert_allclose(serving.visual(frames=rows), plain.visual(frames=rows), atol=1e-6)
        labels = [make_label(f"{CLASSES[i % 3]} {'and more ' * i}") for i in range(n)]
        found, alone = encode_labels(serving, labels), encode_labels(plain, labels)
        np.testing.assert_allclose(found.visual, alone.visual, atol=1e-6)
        np.testing.assert_allclose(found.audio, alone.audio, atol=1e-6)
    assert {name: set(gpu.shapes) for name, gpu in gpus.items()} == warm
    assert len(gpus["visual"].shapes) > 5


def test_a_shared_text_encoder_is_warmed_up_once(shared_bundle: Path) -> None:
    """It stays one object: the row of each label runs through it once, for both tracks and nearness."""
    plain = load_bundle(shared_bundle, Runtime(device="cpu", n_threads=1)).encoders
    gpu = _Gpu(plain.text_visual)
    on_gpu: Any = replace(plain, visual=_Gpu(plain.visual), text_visual=gpu, text_audio=gpu)
    inner = padded(on_gpu, frames=2, windows=2, tokens=36)
    assert isinstance(inner.text_visual, Padded)
    assert inner.text_audio is inner.text_visual
    assert [shape[0] for shape in gpu.shapes] == [1, 2, 3]
    gpu.shapes.clear()
    labels = [make_label(name) for name in CLASSES[:2]]
    found, alone = encode_labels(inner, labels), encode_labels(plain, labels)
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
        batched(replace(plain, visual=gpu), Budgets(frames=6), Metrics())


def test_nothing_is_padded_on_a_cpu(plain: Encoders) -> None:
    """A CPU gains nothing from known shapes, so padding would only cost time."""
    cpu = _Gpu(plain.visual)
    cpu.provider = "CPUExecutionProvider"
    serving = batched(replace(plain, visual=cpu), Budgets(frames=8, n_runs=1), Metrics())
    assert cpu.shapes == []
    serving.visual(frames=np.zeros((5, 16, 16, 3), np.uint8))
    assert [shape[0] for shape in cpu.shapes] == [5]
