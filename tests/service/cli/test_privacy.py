"""What a run leaves on the machine and connects to: nothing beyond its data directory and its port."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import httpx2
import pytest

STRACE = shutil.which("strace")
COMMAND = [sys.executable, "-m", "service.cli"]


@pytest.fixture
def home(tmp_path: Path) -> dict[str, str]:
    """An environment whose home, caches and temporary files are folders of this test."""
    folders = {"HOME": "home", "XDG_CACHE_HOME": "home/cache", "TMPDIR": "tmp"}
    for folder in folders.values():
        (tmp_path / folder).mkdir()
    inherited = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    return {
        **inherited,
        **{name: str(tmp_path / folder) for name, folder in folders.items()},
        "PYTHONDONTWRITEBYTECODE": "1",
        "AHSE_DATA_DIR": str(tmp_path / "data"),
    }


def _serve_once(command: list[str], environment: dict[str, str], clip: Path) -> None:
    """Start the server, have it classify one clip over HTTP, and stop it."""
    with subprocess.Popen(  # noqa: S603  (our own interpreter and code)
        command, stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True
    ) as process:
        assert process.stderr is not None
        said = []
        for line in process.stderr:
            said.append(line)
            if address := re.search(r"url=(http://[\d.]+:\d+)", re.sub(r"\x1b\[\d*m", "", line)):
                break
        else:
            pytest.fail("".join(said))
        form = {"labels": '["red low", "blue high"]'}
        with clip.open("rb") as file:
            answer = httpx2.post(f"{address[1]}/v1/classify", files={"file": file}, data=form, timeout=60)
        os.killpg(process.pid, signal.SIGINT)  # the server, and where it is traced its tracer too
        process.stderr.read()
        assert process.wait(60) == 0
    assert answer.status_code == 200


def test_a_run_writes_only_into_its_data_directory(
    toy_bundle: Path, clips: dict[str, Path], home: dict[str, str], tmp_path: Path
) -> None:
    """No cache, device id or upload is left behind; label sets, keys and embeddings are where they belong."""
    _serve_once([*COMMAND, "serve", "--bundle", str(toy_bundle), "--port", "0"], home, clips["red low"])
    one = [*COMMAND, "classify", str(clips["red low"]), "--bundle", str(toy_bundle), "--label", "red low"]
    subprocess.run(one, env=home, check=True, capture_output=True)  # noqa: S603  (our own code)
    assert [path.name for path in (tmp_path / "home").rglob("*")] == ["cache"]
    assert list((tmp_path / "tmp").iterdir()) == []
    kept = {path.name.partition(".")[0] for path in (tmp_path / "data").iterdir()}
    assert kept == {"labels", "embeddings", "keys", "jobs"}
    assert [path.name for path in (tmp_path / "data" / "jobs").iterdir()] == ["lock"]


@pytest.mark.slow
@pytest.mark.skipif(STRACE is None, reason="strace is not installed")
def test_a_server_opens_no_socket_but_its_own_and_no_file_elsewhere(
    toy_bundle: Path, clips: dict[str, Path], home: dict[str, str], tmp_path: Path
) -> None:
    """By the system calls of it and its children: one address is bound, none is connected to or looked up."""
    log = tmp_path / "calls"
    tracer = [str(STRACE), "--follow-forks", "--output", str(log), "--trace=bind,connect,openat,sendto"]
    served = [*COMMAND, "serve", "--bundle", str(toy_bundle), "--port", "0"]
    _serve_once([*tracer, *served], home, clips["red low"])
    calls = log.read_text()
    assert len(re.findall(r"bind\(.*AF_INET", calls)) == 1
    assert not re.findall(r"connect\(.*AF_INET.*", calls)
    assert "/etc/resolv.conf" not in calls
    written = set(re.findall(r'openat\(AT_FDCWD, "([^"]+)", [A-Z_|]*O_(?:WRONLY|RDWR)', calls))
    allowed = (str(tmp_path / "data"), str(tmp_path / "tmp"), "/dev/", "/proc/")
    assert [path for path in written if not path.startswith(allowed)] == []
