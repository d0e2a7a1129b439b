"""`ahse serve` as a process of its own: ready, restarted, refused."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest

from tests.conftest import Ahse
from tests.toy import NOTICE, write_toy_bundle

COMMAND = [sys.executable, "-m", "service.cli", "serve"]


@contextmanager
def _serving(bundle: Path, data: Path, *flags: str, log: list[str] | None = None) -> Iterator[httpx2.Client]:
    """A server on a free port, which it says in its log; stopped as a container engine stops it.

    Args:
        bundle: that it serves.
        data: its folder.
        flags: further ones.
        log: gets the lines of its log up to the address.
    """
    lines = [] if log is None else log
    with subprocess.Popen(  # noqa: S603  (our own interpreter and code)
        [*COMMAND, "--bundle", str(bundle), "--port", "0", "--data-dir", str(data), *flags],
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"NO_COLOR": "1"},
    ) as process:
        assert process.stderr is not None
        address = None
        for line in process.stderr:
            lines.append(line)
            if address := re.search(r"http://[\d.]+:\d+", line):
                break
        assert address is not None, lines
        try:
            with httpx2.Client(base_url=address.group(), timeout=60) as client:
                yield client
        finally:
            process.send_signal(signal.SIGTERM)
            rest = process.stderr.read()
            assert process.wait(60) in (0, -signal.SIGTERM), rest
            assert "Traceback" not in rest


def test_a_label_added_at_run_time_survives_a_restart(
    toy_bundle: Path, tmp_path: Path, clips: dict[str, Path]
) -> None:
    """Over real HTTP: add a label, see it win, restart the server, see it win again."""

    def winner(client: httpx2.Client) -> str:
        with clips["red low"].open("rb") as clip:
            response = client.post("/v1/classify", files={"file": clip}, data={"label_set": "s"})
        return str(response.json()["predictions"][0]["label"])

    with _serving(toy_bundle, tmp_path) as client:
        assert client.get("/v2/health/ready").json() == {"ready": True}
        client.put("/v1/label-sets/s", json={"labels": ["green", "blue"]})
        assert winner(client) != "red"
        client.post("/v1/label-sets/s/labels", json={"labels": ["red"]})
        assert winner(client) == "red"
    with _serving(toy_bundle, tmp_path) as client:
        assert winner(client) == "red"


def test_notices_are_logged_at_the_start(toy_bundle: Path, shared_bundle: Path, tmp_path: Path) -> None:
    """Once for each bundle that has one, as a warning, before the first request can come."""
    log: list[str] = []
    with _serving(toy_bundle, tmp_path, "--bundle", str(shared_bundle), log=log):
        pass
    (line,) = [line for line in log if "bundle_notice" in line]
    assert "warning" in line
    assert "bundle=shared" in line
    assert NOTICE in line


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("AHSE_PORT", "many", "setting port (AHSE_PORT)"),
        ("AHSE_MAX_LABELS", "0", "setting max_labels (AHSE_MAX_LABELS)"),
        ("AHSE_BUNDLES", ",", "setting bundles (AHSE_BUNDLES)"),
    ],
)
def test_a_setting_that_is_not_acceptable_is_named(
    ahse: Ahse, monkeypatch: pytest.MonkeyPatch, name: str, value: str, says: str
) -> None:
    """One line and exit code 2, before anything is started."""
    monkeypatch.setenv(name, value)
    code, _, error = ahse("serve")
    assert code == 2
    assert says in error
    assert len(error.splitlines()) == 1


def test_a_bundle_that_is_not_there_is_named(tmp_path: Path) -> None:
    """One line, exit code 2, no traceback."""
    done = subprocess.run(  # noqa: S603  (our own interpreter and code)
        COMMAND,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"AHSE_DATA_DIR": str(tmp_path), "AHSE_BUNDLES": "/nowhere", "AHSE_PORT": "0"},
    )
    assert done.returncode == 2
    assert "bundle nowhere: there is no manifest.json" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_damaged_bundle_is_refused_at_start(tmp_path: Path) -> None:
    """The file is named."""
    bundle = write_toy_bundle(tmp_path / "toy")
    (bundle / "audio.onnx").write_bytes(b"damaged")
    done = subprocess.run(  # noqa: S603  (our own interpreter and code)
        [*COMMAND, "--bundle", str(bundle), "--data-dir", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "audio.onnx is not the file that was published" in done.stderr


def test_a_taken_port_is_told_before_any_bundle_is_loaded(tmp_path: Path) -> None:
    """The bundle does not even exist; which flags would help is said."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = subprocess.run(  # noqa: S603  (our own interpreter and code)
            [*COMMAND, "--port", str(port), "--bundle", "/nowhere", "--data-dir", str(tmp_path)],
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 2
    assert f"can't listen on 127.0.0.1 port {port}" in done.stderr
    assert "--port" in done.stderr
    assert "manifest" not in done.stderr


def test_unknown_variables_are_named_with_the_nearest_setting(tmp_path: Path) -> None:
    """A typing slip in a deployment would otherwise be a setting that silently does nothing."""
    done = subprocess.run(  # noqa: S603  (our own interpreter and code)
        [*COMMAND, "--bundle", "/nowhere", "--port", "0"],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"AHSE_DATA_DIR": str(tmp_path), "AHSE_MAX_LABLES": "5"},
    )
    assert "AHSE_MAX_LABLES is not a setting, and is ignored; did you mean AHSE_MAX_LABELS?" in done.stderr
    assert "AHSE_DATA_DIR is not" not in done.stderr


def test_too_few_open_files_are_told_at_the_start(toy_bundle: Path, tmp_path: Path) -> None:
    """With so few, connections would fail later, and health with them; the way out is in the message."""
    command = ["bash", "-c", 'ulimit -n 150; exec "$@"', "-", *COMMAND, "--bundle", str(toy_bundle)]
    done = subprocess.run(  # noqa: S603  (our own interpreter and code)
        [*command, "--data-dir", str(tmp_path), "--port", "0"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "limit on open files" in done.stderr
    assert "ulimit -n" in done.stderr
