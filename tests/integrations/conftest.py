"""A running service with the toy bundle, for tools that know nothing but its address."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.servers import free_port, running, serve_command
from tests.toy import write_scenes


@pytest.fixture(scope="session")
def service_url(toy_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of `ahse serve`, in a process of its own."""
    port = free_port()
    folder = tmp_path_factory.mktemp("integrations")
    with (folder / "log").open("wb") as log, running(serve_command(toy_bundle, port, folder), port, log):
        yield f"http://127.0.0.1:{port}"


@pytest.fixture(scope="session")
def changing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six seconds of 10 frames each: two red and low, two blue and high, two green and silent."""
    path = tmp_path_factory.mktemp("scenes") / "changing.mp4"
    return write_scenes(path, ["red", "blue", "green"], ["low", "high", None], seconds=2.0)
