"""The schedule of health checks: what is remembered, what is named, and what never waits."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from structlog.testing import capture_logs

from service.api import health_monitor
from service.api.health_monitor import HealthMonitor
from service.classifier import try_bundle
from service.encode.encoders import Encoder
from service.errors import BundleInvalidError, StoreUnavailableError
from service.registry import Bundle, load_bundle
from service.runtime.providers import Runtime

WAIT_S = 30.0


class _Part:
    """A part that works, fails, or hangs, as it is told."""

    def __init__(self) -> None:
        self.fault: Exception | None = None
        self.go_on = threading.Event()
        self.go_on.set()
        self.tried = threading.Semaphore(0)

    def __call__(self) -> None:
        """Try it."""
        self.tried.release()
        assert self.go_on.wait(WAIT_S)
        if self.fault is not None:
            raise self.fault


def _until(condition: Callable[[], bool], part: _Part) -> None:
    """Wait for more tries until a condition holds."""
    while not condition():
        assert part.tried.acquire(timeout=WAIT_S)


def test_a_part_that_fails_is_named_until_it_works_again() -> None:
    """In the words of our own errors; others are not repeated to clients. Changes are logged, once."""
    store, decoder = _Part(), _Part()
    monitor = HealthMonitor({"store": store, "decoder": decoder}, interval_s=0.001, timeout_s=WAIT_S)
    assert set(monitor.faults()) == {"store", "decoder"}  # not ready before the first tries
    with capture_logs() as logged:
        monitor.start()
        assert monitor.wait_for_first(WAIT_S)
        assert monitor.faults() == {}
        store.fault = StoreUnavailableError("the disk is full")
        _until(lambda: monitor.faults() == {"store": "the disk is full"}, store)
        store.fault = ZeroDivisionError("secret")
        _until(lambda: monitor.faults() == {"store": "does not work"}, store)
        store.fault = None
        _until(lambda: monitor.faults() == {}, store)
        monitor.close()
    changes = [record["works"] for record in logged if record["part"] == "store"]
    assert changes == [False, False, True]


def test_a_part_that_hangs_is_named_without_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Asking waits for nothing, and a check that never ends is found by its time."""
    now = 0.0
    monkeypatch.setattr(health_monitor, "time", SimpleNamespace(monotonic=lambda: now))
    store, decoder = _Part(), _Part()
    monitor = HealthMonitor({"store": store, "decoder": decoder}, interval_s=WAIT_S, timeout_s=5)
    decoder.go_on.clear()
    monitor.start()
    assert decoder.tried.acquire(timeout=WAIT_S)
    assert not monitor.wait_for_first(0.1)
    now = 6.0
    assert monitor.faults()["decoder"] == "has not answered for 5 seconds"
    decoder.go_on.set()
    assert monitor.wait_for_first(WAIT_S)
    monitor.close()


class _Broken:
    """An encoder whose results are no numbers."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder

    def __call__(self, **rows: Any) -> Any:
        """Encode for real, first."""
        return self._encoder(**rows) * np.nan


@pytest.fixture
def bundle(toy_bundle: Path) -> Bundle:
    """The toy bundle, loaded."""
    return load_bundle(toy_bundle, Runtime(device="cpu", n_threads=1))


def test_a_bundle_is_tried_by_real_inference(bundle: Bundle) -> None:
    """Of every graph: an encoder that fails, or returns what is no number, is found."""
    try_bundle(bundle)
    for name in ("visual", "audio", "text_visual"):
        broken: Any = {name: _Broken(getattr(bundle.encoders, name))}
        with pytest.raises(BundleInvalidError, match="not finite"):
            try_bundle(replace(bundle, encoders=replace(bundle.encoders, **broken)))
