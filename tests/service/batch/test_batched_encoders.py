"""A bundle for serving gives what the bundle itself gives."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import pytest

from service.api.prometheus import Metrics
from service.batch.batched import Batched
from service.batch.batched_encoders import Batching, Budgets
from service.encode.clip_features import encode_clip
from service.encode.encoders import Encoder, Encoders
from service.encode.text import encode_labels
from service.labels.label import make_label
from service.media import Clip, Track
from service.registry import Registry, load_bundle
from service.runtime.providers import Runtime
from tests.service.batch.fakes import WAIT_S, HeldEncoder, asked_turns, rows_of
from tests.toy import CLASSES

USED = Track(used=True)


@pytest.fixture(scope="module")
def plain(toy_bundle: Path) -> Encoders:
    """The encoders of the toy bundle as the command line uses it."""
    return load_bundle(toy_bundle, Runtime(device="cpu", n_threads=1)).encoders


def _clip(seed: int) -> Clip:
    rng = np.random.default_rng(seed)
    frames = rng.integers(0, 255, (4 + seed, 16, 16, 3), np.uint8)
    sound = rng.uniform(-0.5, 0.5, 8_000 * (3 + seed)).astype(np.float32)
    return Clip(frames, np.arange(4.0 + seed), sound, 2.0, USED, USED)


def test_batching_does_not_change_the_features_of_clips(plain: Encoders) -> None:
    """Batches of three rows mix clips of 4 to 11 frames; the graph itself is the oracle."""
    clips = [_clip(seed) for seed in range(8)]
    serving = Batching(Budgets(frames=3, windows=3), Metrics()).wrap(plain)
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda clip: encode_clip(serving, clip), clips))
    for ours, clip in zip(found, clips, strict=True):
        alone = encode_clip(plain, clip)
        for one, other in ((ours.visual, alone.visual), (ours.audio, alone.audio)):
            assert one is not None
            assert other is not None
            np.testing.assert_allclose(one, other, atol=1e-6)


def test_batching_does_not_change_the_features_of_labels(plain: Encoders) -> None:
    """Parallel requests have different labels in different orders."""
    wanted = [[make_label(name) for name in CLASSES[shift:] + CLASSES[:shift]] for shift in range(8)]
    serving = Batching(Budgets(tokens=50), Metrics()).wrap(plain)
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda labels: encode_labels(serving, labels), wanted))
    for ours, labels in zip(found, wanted, strict=True):
        alone = encode_labels(plain, labels)
        np.testing.assert_allclose(ours.visual, alone.visual, atol=1e-6)
        np.testing.assert_allclose(ours.audio, alone.audio, atol=1e-6)


def test_each_encoder_has_a_queue_and_metrics_of_its_own(plain: Encoders) -> None:
    """The metrics count runs by encoder, and no rows wait afterwards."""
    metrics = Metrics()
    serving = Batching(Budgets(frames=3, n_runs=1), metrics).wrap(plain)
    assert serving.visual.provider == plain.visual.provider
    encode_clip(serving, _clip(0))
    lines = metrics.text().decode().splitlines()
    assert 'ahse_batch_rows_count{encoder="visual"} 2.0' in lines
    assert 'ahse_batch_rows_sum{encoder="visual"} 4.0' in lines
    assert 'ahse_batch_rows_sum{encoder="audio"} 3.0' in lines
    assert 'ahse_rows_waiting{encoder="visual"} 0.0' in lines
    assert not any("text" in line for line in lines if line.startswith("ahse_batch_rows"))


def test_encoders_take_turns_on_the_processors(plain: Encoders, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each has its queue, but no run of one begins beside as many of others as may run at once.

    Also of another bundle.
    """
    held, turns = HeldEncoder(), asked_turns(monkeypatch)
    one = replace(plain, visual=cast("Encoder", held), audio=cast("Encoder", held))
    batching = Batching(Budgets(frames=1, windows=1, n_runs=2), Metrics())
    serving, other = batching.wrap(one), batching.wrap(one)
    with ThreadPoolExecutor(4) as threads:
        asked = [
            threads.submit(encoder, rows=rows_of(number))
            for number, encoder in enumerate((serving.visual, other.visual, serving.audio, other.audio))
        ]
        for _ in asked:
            assert turns.acquire(timeout=WAIT_S)
        held.wait_for_run()
        held.wait_for_run()
        for n_ended in range(1, 3):
            assert len(held.batches) == n_ended + 1
            held.end_runs()
            held.wait_for_run()
        held.end_runs(2)
        assert [one.result(WAIT_S).tolist() for one in asked] == [[[0]], [[2]], [[4]], [[6]]]


def test_a_shared_text_encoder_has_one_queue(shared_bundle: Path) -> None:
    """Both tracks use the same object, and labels run through it once."""
    plain = load_bundle(shared_bundle, Runtime(device="cpu", n_threads=1)).encoders
    metrics = Metrics()
    serving = Batching(Budgets(n_runs=1), metrics).wrap(plain)
    assert isinstance(serving.text_visual, Batched)
    assert serving.text_audio is serving.text_visual
    labels = [make_label(name) for name in CLASSES]
    found, alone = encode_labels(serving, labels), encode_labels(plain, labels)
    np.testing.assert_allclose(found.visual, alone.visual, atol=1e-6)
    np.testing.assert_allclose(found.audio, alone.audio, atol=1e-6)
    np.testing.assert_array_equal(found.nearness, alone.nearness)
    lines = metrics.text().decode().splitlines()
    assert f'ahse_batch_rows_sum{{encoder="text_visual"}} {len(CLASSES):.1f}' in lines
    assert not any('encoder="text_audio"' in line for line in lines)


def test_a_reloaded_bundle_is_batched_too(toy_bundle: Path) -> None:
    """The registry wraps every bundle that it loads, at start and later; the old bundle keeps its queues."""
    registry = Registry([toy_bundle], Runtime(device="cpu", n_threads=1), Batching(Budgets(), Metrics()).wrap)
    before = registry.get()
    after = registry.reload("toy")
    assert isinstance(before.encoders.visual, Batched)
    assert isinstance(after.encoders.visual, Batched)
    assert registry.get().encoders.visual is after.encoders.visual
    assert after.encoders.visual is not before.encoders.visual
