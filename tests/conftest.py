"""Fixtures for all tests: the toy bundle and its clips, written once a run."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

from service.cli import main
from tests.toy import CLASSES, NOTICE, write_clip, write_toy_bundle

# Tests import onnxruntime themselves too: its telemetry must be off before that.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
# Starlette's TestClient calls its host `testserver`.
os.environ["AHSE_ALLOWED_HOSTS"] = "testserver"

# A busy machine is no fault of the code: examples may take as long as they need.
settings.register_profile("any time", deadline=None)
settings.load_profile("any time")

Ahse = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="session")
def toy_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory of the toy bundle; the first four classes are seen. Don't change it."""
    return write_toy_bundle(tmp_path_factory.mktemp("bundles") / "toy", seen=CLASSES[:4])


@pytest.fixture(scope="session")
def shared_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory of a toy bundle with one text graph for both tracks and a notice. Don't change it."""
    return write_toy_bundle(
        tmp_path_factory.mktemp("bundles") / "shared", name="shared", shared=True, notice=NOTICE
    )


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


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Files of a certificate for 127.0.0.1 that signs itself, and of its key."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not installed")
    folder = tmp_path_factory.mktemp("tls")
    files = folder / "certificate.pem", folder / "key.pem"
    subprocess.run(  # noqa: S603  (fixed arguments)
        [
            *(openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
            *("-days", "2", "-subj", "/CN=test", "-addext", "subjectAltName=IP:127.0.0.1"),
            *("-out", str(files[0]), "-keyout", str(files[1])),
        ],
        check=True,
        capture_output=True,
    )
    return files


@pytest.fixture
def ahse(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Ahse:
    """The command `ahse` in this process: words in; exit code, standard output and standard error out."""

    def run(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["ahse", *(str(word) for word in words)])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out, said.err

    return run
