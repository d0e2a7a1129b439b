"""A loopback hub with one random checkpoint, and an empty cache."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import safetensors.numpy

from model_export.hub.hub_requests import Hub
from model_export.hub.pins import Pins
from tests.model_export.hub.loopback import LoopbackHub, serving

REPO = "someone/model"


def random_weights(seed: int) -> bytes:
    """A safetensors file of about 80 kB."""
    noise = np.random.default_rng(seed).standard_normal((100, 200), dtype=np.float32)
    return safetensors.numpy.save({"tower.weight": noise})


@pytest.fixture(autouse=True)
def _no_surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing of the user: no token, no mirror, no offline mode. The library waits less and writes sooner."""
    monkeypatch.setattr("huggingface_hub.file_download.time", SimpleNamespace(sleep=lambda _seconds: None))
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 1000)  # what a lost connection costs
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "no-token"))
    for name in [name for name in os.environ if name.startswith(("HF_", "HUGGING_FACE"))]:
        monkeypatch.delenv(name)


@pytest.fixture
def remote() -> Iterator[LoopbackHub]:
    """A hub with one repository."""
    with serving(LoopbackHub({REPO: {"model.safetensors": random_weights(0)}})) as hub:
        yield hub


@pytest.fixture
def pauses() -> list[float]:
    """For how long the hub was left alone, each time."""
    return []


@pytest.fixture
def hub(remote: LoopbackHub, tmp_path: Path, pauses: list[float]) -> Hub:
    """That hub, an empty cache, and nothing pinned."""
    return Hub(remote.endpoint, tmp_path / "cache", Pins(), pauses.append)
