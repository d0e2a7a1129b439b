"""`ahse serve` as a process of its own: ready, restarted, refused."""

from __future__ import annotations

import os
import re
import socket
import ssl
import subprocess
from pathlib import Path

import httpx2
import pytest

from tests.conftest import Ahse
from tests.service.serving import COMMAND, serving
from tests.toy import NOTICE, write_toy_bundle


def test_a_label_added_at_run_time_survives_a_restart(
    toy_bundle: Path, tmp_path: Path, clips: dict[str, Path]
) -> None:
    """Over real HTTP: add a label, see it win, restart the server, see it win again."""

    def winner(client: httpx2.Client) -> str:
        with clips["red low"].open("rb") as clip:
            response = client.post("/v1/classify", files={"file": clip}, data={"label_set": "s"})
        return str(response.json()["predictions"][0]["label"])

    with serving(toy_bundle, tmp_path) as client:
        assert client.get("/v2/health/ready").json() == {"ready": True}
        client.put("/v1/label-sets/s", json={"labels": ["green", "blue"]})
        assert winner(client) != "red"
        client.post("/v1/label-sets/s/labels", json={"labels": ["red"]})
        assert winner(client) == "red"
    with serving(toy_bundle, tmp_path) as client:
        assert winner(client) == "red"


def test_notices_are_logged_at_the_start(toy_bundle: Path, shared_bundle: Path, tmp_path: Path) -> None:
    """Once for each bundle that has one, as a warning, before the first request can come."""
    log: list[str] = []
    with serving(toy_bundle, tmp_path, "--bundle", str(shared_bundle), log=log):
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
    assert "bundle /nowhere: there is no such folder; a bundle is" in done.stderr
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


def test_beyond_loopback_a_key_is_needed_or_the_service_must_be_open(tmp_path: Path) -> None:
    """Exit code 2 and one line with both remedies, before any bundle is loaded; an open one warns."""

    def start(*flags: str) -> str:
        done = subprocess.run(  # noqa: S603  (our own interpreter and code)
            [*COMMAND, "--host", "0.0.0.0", "--port", "0", "--bundle", "/nowhere", *flags],  # noqa: S104
            capture_output=True,
            text=True,
            check=False,
            env=os.environ | {"AHSE_DATA_DIR": str(tmp_path), "NO_COLOR": "1"},
        )
        assert done.returncode == 2
        return done.stderr

    refused = start()
    assert len(refused.splitlines()) == 1
    assert all(remedy in refused for remedy in ("AHSE_API_KEY", "ahse keys create", "--open or AHSE_OPEN=1"))
    is_open = start("--open")
    assert re.search(r"warning.* open .*everyone", is_open)
    assert "bundle /nowhere" in is_open


def test_a_key_that_could_be_guessed_is_refused_and_not_repeated(
    ahse: Ahse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With how to make one."""
    monkeypatch.setenv("AHSE_API_KEY", "guess-me")
    code, _, error = ahse("serve")
    assert code == 2
    assert "setting api_key (AHSE_API_KEY)" in error
    assert "openssl rand -hex 32" in error
    assert "guess-me" not in error


def test_the_admin_port_is_a_second_one_of_the_same_server(toy_bundle: Path, tmp_path: Path) -> None:
    """Metrics there without a key, clips only on the main port and with one."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    key = "0123456789abcdef0123456789abcdef"
    variables = {"AHSE_ADMIN_PORT": str(port), "AHSE_API_KEY": key}
    with serving(toy_bundle, tmp_path, variables=variables) as client:
        admin = f"http://127.0.0.1:{port}"
        assert "ahse_requests_total" in client.get(f"{admin}/metrics").text
        assert client.get(f"{admin}/v1/models").status_code == 404
        assert client.get("/metrics", headers={"X-API-Key": key}).status_code == 404
        assert client.get("/v1/models").status_code == 401
        assert client.get("/v1/models", headers={"X-API-Key": key}).status_code == 200


def test_tls_by_certificate_files(toy_bundle: Path, tmp_path: Path, certificate: tuple[Path, Path]) -> None:
    """The address says https; plain HTTP gets no answer."""
    variables = {"AHSE_TLS_CERT": str(certificate[0]), "AHSE_TLS_KEY": str(certificate[1])}
    trusted = ssl.create_default_context(cafile=certificate[0])
    with serving(toy_bundle, tmp_path, variables=variables, verify=trusted) as client:
        answer = client.get("/v2/health/ready")
        assert answer.status_code == 200
        assert answer.headers["Strict-Transport-Security"] == "max-age=31536000"
        plain = str(client.base_url).replace("https", "http")
        with pytest.raises(httpx2.TransportError):
            httpx2.get(f"{plain}/v2/health/ready")
