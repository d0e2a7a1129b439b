"""The bytes of one file: what is there already decides what is asked for."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from model_export.hub.transfer import transfer
from tests.model_export.hub.conftest import REPO, random_weights
from tests.model_export.hub.loopback import LoopbackHub

WEIGHTS = random_weights(0)


@pytest.fixture
def blob(tmp_path: Path) -> Path:
    """Where the file belongs."""
    return tmp_path / "blobs" / hashlib.sha256(WEIGHTS).hexdigest()


def _transfer(remote: LoopbackHub, blob: Path) -> None:
    url = f"{remote.endpoint}/{REPO}/resolve/main/model.safetensors"
    transfer(url, blob, len(WEIGHTS), blob.parent.parent / "locks" / "one.lock")


def test_what_another_process_has_finished_is_left_alone(remote: LoopbackHub, blob: Path) -> None:
    """It was waited for, and then nothing is left to do."""
    blob.parent.mkdir()
    blob.write_bytes(WEIGHTS)
    _transfer(remote, blob)
    assert remote.asked == []


def test_a_part_that_is_already_whole_is_only_checked(remote: LoopbackHub, blob: Path) -> None:
    """The process was killed before it could rename."""
    blob.parent.mkdir()
    blob.with_name(f"{blob.name}.incomplete").write_bytes(WEIGHTS)
    _transfer(remote, blob)
    assert (blob.read_bytes(), remote.asked) == (WEIGHTS, [])


def test_a_part_that_is_too_long_starts_over(remote: LoopbackHub, blob: Path) -> None:
    """Two processes wrote to it on a disk whose locks don't hold."""
    blob.parent.mkdir()
    blob.with_name(f"{blob.name}.incomplete").write_bytes(WEIGHTS + b"?")
    _transfer(remote, blob)
    assert blob.read_bytes() == WEIGHTS
    assert {asked.range for asked in remote.asked} == {None}
