"""What users set counts: HF_ENDPOINT, HF_HOME, HF_HUB_OFFLINE; progress is shown to people only."""

from __future__ import annotations

import os
import subprocess
import sys
import termios
from pathlib import Path

from tests.model_export.hub.conftest import REPO, random_weights
from tests.model_export.hub.loopback import LoopbackHub

_CODE = """
from model_export.hub.fetch import fetch
from model_export.hub.hub_requests import Hub, Wanted
print(fetch(Wanted({repo!r}, ("model.safetensors",), "--x FILE"), Hub()).path)
"""


def _run(stderr: int, **environment: str) -> str:
    """What a process of its own with these variables prints: the library reads them at import."""
    done = subprocess.run(  # noqa: S603  (our own interpreter and code)
        [sys.executable, "-c", _CODE.format(repo=REPO)],
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def test_mirror_cache_and_offline_mode_are_the_users(remote: LoopbackHub, tmp_path: Path) -> None:
    """On a terminal there is a progress bar; the second run is offline."""
    ours, terminal = os.openpty()
    termios.tcsetwinsize(terminal, (24, 80))
    path = Path(_run(terminal, HF_ENDPOINT=remote.endpoint, HF_HOME=str(tmp_path / "home")))
    shown = os.read(ours, 10_000).decode()
    os.close(ours)
    os.close(terminal)
    assert path.read_bytes() == random_weights(0)
    assert path.is_relative_to(tmp_path / "home" / "hub")
    assert "model.safetensors: 100%" in shown
    remote.asked.clear()
    again = _run(subprocess.DEVNULL, HF_HUB_OFFLINE="1", HF_HOME=str(tmp_path / "home"))
    assert (Path(again), remote.asked) == (path, [])


def test_no_progress_bar_in_a_log(remote: LoopbackHub, tmp_path: Path) -> None:
    """Standard error that goes to a file stays empty."""
    log = tmp_path / "log"
    with log.open("w") as file:
        _run(file.fileno(), HF_ENDPOINT=remote.endpoint, HF_HUB_CACHE=str(tmp_path / "cache"))
    assert log.read_text() == ""
    assert (tmp_path / "cache" / "models--someone--model").is_dir()
