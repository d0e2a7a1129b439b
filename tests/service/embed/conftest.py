"""The toy bundle, and its text encoders held."""

from __future__ import annotations

from pathlib import Path

import pytest

from service.embed import embedder
from service.registry import Bundle, load_bundle
from service.runtime.providers import Runtime
from tests.service.embed.fakes import HeldEncoding


@pytest.fixture(scope="module")
def bundle(toy_bundle: Path) -> Bundle:
    """The toy bundle, loaded."""
    return load_bundle(toy_bundle, Runtime(device="cpu", n_threads=1))


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> HeldEncoding:
    """In place of the text encoders."""
    encoding = HeldEncoding()
    monkeypatch.setattr(embedder, "encode_labels", encoding)
    return encoding
