"""Fixtures for all tests: the toy bundle and its clips, written once a run."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.toy import CLASSES, write_clip, write_toy_bundle


@pytest.fixture(scope="session")
def toy_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory of the toy bundle; the first four classes are seen. Don't change it."""
    return write_toy_bundle(tmp_path_factory.mktemp("bundles") / "toy", seen=CLASSES[:4])


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Toy clips by name: both tracks, and one track alone."""
    folder = tmp_path_factory.mktemp("clips")
    return {
        "red low": write_clip(folder / "a.mp4", "red", "low"),
        "blue high": write_clip(folder / "b.mp4", "blue", "high"),
        "green": write_clip(folder / "c.mp4", "green", None),
        "middle": write_clip(folder / "d.mp4", None, "middle"),
    }
