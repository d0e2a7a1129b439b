"""A running service on the toy bundle, for all tests over real HTTP that change none of its settings."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.service.serving import serving


@pytest.fixture(scope="session")
def toy_service(toy_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Its URL. It has no keys; label sets that a test makes are named after it."""
    with serving(toy_bundle, tmp_path_factory.mktemp("toy service")) as client:
        yield str(client.base_url)
