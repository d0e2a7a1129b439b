"""The script on a dataset of a real FiftyOne with its database, which `make test-integrations` installs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from benchmarks.servers import free_port
from tests.integrations.readme import blocks, filled
from tests.integrations.servers import ROOT, started

PYTHON = ROOT / ".venv-fiftyone" / "bin" / "python"
# What FiftyOne would compute with ffprobe, which need not be installed.
SET_METADATA = """
for sample in dataset:
    sample.metadata = fo.VideoMetadata(frame_rate=10, total_frame_count=60, duration=6)
    sample.save()
"""
TELL = """
import json
import fiftyone as fo
found = {}
for sample in fo.load_dataset("my-videos"):
    if sample.has_field("ahse") and sample["ahse"] is not None:
        found[sample.filename] = {
            "whole": [[one.label, one.confidence] for one in sample["ahse"].classifications],
            "bundle": sample["ahse"].bundle,
            "parts": [[one.label, *one.support] for one in sample["ahse_parts"].detections],
        }
print(json.dumps(found))
"""

Run = Callable[..., subprocess.CompletedProcess[str]]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not PYTHON.exists(), reason="no FiftyOne; install it: make test-integrations"),
]


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    """Runs commands with FiftyOne's Python and an empty database, the one of its wheel."""
    (mongod,) = PYTHON.parents[1].glob("lib/python*/site-packages/fiftyone/db/bin/mongod")
    port = free_port()
    (tmp_path / "database").mkdir()
    command = f"exec {mongod} --dbpath {tmp_path}/database --bind_ip 127.0.0.1 --port {port}"
    env = {
        "HOME": str(tmp_path),
        "FIFTYONE_DATABASE_URI": f"mongodb://127.0.0.1:{port}",
        "FIFTYONE_DO_NOT_TRACK": "true",
        "PATH": f"{PYTHON.parent}:{os.environ['PATH']}",
    }

    def made(*words: object) -> subprocess.CompletedProcess[str]:
        command = [str(word) for word in words]
        return subprocess.run(  # noqa: S603  (commands of our README)
            command, env=os.environ | env, cwd=ROOT, capture_output=True, text=True, check=False
        )

    with started(command, port, tmp_path / "log", {}):
        yield made


def test_a_dataset_gets_names_and_parts(service_url: str, run: Run, changing: Path, tmp_path: Path) -> None:
    """As the README says; a broken file is listed and costs no other, and a second run finds only it."""
    videos = tmp_path / "videos"
    videos.mkdir()
    shutil.copy(changing, videos / "changing.mp4")
    (videos / "broken.mp4").write_bytes(b"Dear reader")
    make = filled(blocks("fiftyone", "python")[0], {"/path/to/videos": videos})
    made = run(PYTHON, "-c", make + SET_METADATA)
    assert made.returncode == 0, made.stderr

    command = filled(blocks("fiftyone", "sh")[0], {"http://127.0.0.1:8000": service_url})
    for _ in range(2):
        done = run("/bin/sh", "-c", command)
        assert done.returncode == 1
        assert "broken.mp4: This is not a clip that can be read" in done.stderr
        assert "1 of the samples could not be classified." in done.stderr

    told = run(PYTHON, "-c", TELL)
    assert told.returncode == 0, told.stderr
    found = json.loads(told.stdout.splitlines()[-1])
    assert list(found) == ["changing.mp4"]
    sample = found["changing.mp4"]
    assert sample["bundle"] == "toy 1"
    assert sample["parts"] == [["red with a low tone", 1, 20], ["blue with a high tone", 21, 40]]
    assert len(sample["whole"]) == 3
    assert sum(confidence for _, confidence in sample["whole"]) == pytest.approx(1.0)
