"""Ctrl-C at any moment: exit code 130, no traceback, and what was finished is kept."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from service.cli.interrupts import Interrupts
from service.client import Limits, Model
from tests.conftest import Ahse

ROOT = Path(__file__).resolve().parents[3]
LABELS = ["--label", "red", "--label", "blue"]
# Presses Ctrl-C when a package or module begins to be imported.
_AT_IMPORT = """
import os, signal, sys
class Press:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Press())
"""
# Presses it when a function is called, from then on at every call.
_AT_CALL = """
import os, signal, sys
import {module}
whole = {module}.{name}
def press(*args, **kwargs):
    os.kill(os.getpid(), signal.SIGINT)
    return whole(*args, **kwargs)
{module}.{name} = press
"""
_RUN = """
sys.argv = ["ahse", *{words!r}]
from service.cli import main
main()
"""


def _run(prelude: str, words: list[str], cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603  (our own interpreter and code)
        [sys.executable, "-c", prelude + _RUN.format(words=words)],
        capture_output=True,
        text=True,
        cwd=cwd,
        check=False,
        timeout=60,
        env=os.environ | {"PYTHONPATH": f"{ROOT}:{os.environ.get('PYTHONPATH', '')}"},
    )


def _files(folder: Path) -> list[str]:
    """Those that have a record."""
    lines = (folder / "r.jsonl").read_text().splitlines()
    return [json.loads(line)["file"] for line in lines]


@pytest.fixture
def words(toy_bundle: Path, clips: dict[str, Path], tmp_path: Path) -> list[str]:
    """A command over four clips in the folder of the test."""
    for number in range(4):
        shutil.copy(clips["red low"], tmp_path / f"{number}.mp4")
    return ["classify", ".", "--bundle", str(toy_bundle), *LABELS, "-o", "r.jsonl", "--jobs", "1"]


@pytest.mark.parametrize(
    "module",
    [
        "service.cli.commands",
        "typer",
        "service.cli.rank_clips",
        "service.cli.rankers",
        "pydantic",
        "numpy",
        "numpy.linalg",
        "onnxruntime",
        "service.registry",
    ],
)
def test_during_imports(module: str, words: list[str], tmp_path: Path) -> None:
    """Nothing has begun, and nothing is left; packages do not turn it into errors of their own."""
    done = _run(_AT_IMPORT.format(module=module), words, tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")
    assert not (tmp_path / "r.jsonl").exists()


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("service.bundle.directory", "open_manifest"),
        ("service.runtime.graph", "onnxruntime"),
        ("service.cli.clip_files", "kind_of"),
        ("service.embed.embedder", "encode_labels"),
    ],
)
def test_while_a_model_is_loaded_or_clips_are_found(
    module: str, name: str, words: list[str], tmp_path: Path
) -> None:
    """As during imports."""
    prelude = _AT_CALL.format(module=module, name=name)
    done = _run(prelude, words, tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("service.decode.pool", "DecodePool.decode"),
        ("service.encode.clip_features", "EncodingAhead.features"),
        ("service.cli.records", "make_record"),
        ("service.cli.record_files", "JsonLines._text"),
    ],
)
def test_while_clips_are_ranked_and_written(
    module: str, name: str, words: list[str], tmp_path: Path, ahse: Ahse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whole records in the file, the way to go on in the message; a second run finishes."""
    done = _run(_AT_CALL.format(module=module, name=name), words, tmp_path)
    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr.startswith("ahse: interrupted; ")
    assert done.stderr.endswith(" of 4 clips are done. Go on with --resume.\n")
    assert len(done.stderr.splitlines()) == 1
    names = [f"{number}.mp4" for number in range(4)]
    kept = _files(tmp_path)
    assert kept == names[: len(kept)]
    assert len(kept) < len(names)
    monkeypatch.chdir(tmp_path)
    assert ahse(*words, "--resume")[0] == 0
    assert _files(tmp_path) == names


def test_a_parquet_file_is_complete_too(words: list[str], tmp_path: Path) -> None:
    """It needs an index at its end."""
    parquet = pytest.importorskip("pyarrow.parquet", reason="Parquet files need pyarrow (the extra parquet)")
    words[words.index("r.jsonl")] = "r.parquet"
    done = _run(_AT_CALL.format(module="service.cli.records", name="make_record"), words, tmp_path)
    assert done.returncode == 130
    files = parquet.read_table(tmp_path / "r.parquet")["file"].to_pylist()  # two labels, two rows each
    assert files[:2] == ["0.mp4", "0.mp4"]
    assert len(files) < 2 * 4


def test_while_a_service_is_waited_for(clips: dict[str, Path]) -> None:
    """An upload that nobody answers does not hold the program back."""
    limits = {one.name: 9 for one in dataclasses.fields(Limits)}
    info = {"version": "1", "default_bundle": "a", "bundles": ["a"], "limits": limits}
    model: dict[str, object] = {one.name: "a" for one in dataclasses.fields(Model)}
    model |= {"seen_classes": [], "metrics": []}
    command = [sys.executable, "-m", "service.cli", "classify", str(clips["green"]), *LABELS]
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        with subprocess.Popen(  # noqa: S603  (our own interpreter and code)
            [*command, "--url", url], stderr=subprocess.PIPE, text=True, cwd=ROOT
        ) as process:
            connection, _ = server.accept()
            with connection, connection.makefile("rb") as requests:
                while not (line := requests.readline()).startswith(b"POST"):
                    assert line, "the command has ended"
                    while requests.readline().strip():
                        pass
                    body = json.dumps(info if b"info" in line else model).encode()
                    head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n"
                    connection.sendall(head.encode() + body)
                process.send_signal(signal.SIGINT)
                _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert said == "ahse: interrupted; 0 of 1 clips are done.\n"


def test_ctrl_c_ends_the_service_in_an_orderly_way(toy_bundle: Path, tmp_path: Path) -> None:
    """Exit code 0, as before: it is how a service at a terminal is stopped."""
    command = [sys.executable, "-m", "service.cli", "serve", "--bundle", str(toy_bundle), "--port", "0"]
    with subprocess.Popen(  # noqa: S603  (our own interpreter and code)
        [*command, "--data-dir", str(tmp_path)], stderr=subprocess.PIPE, text=True, cwd=ROOT
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "serving" in line:
                break
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read()
        assert process.wait(60) == 0
    assert "Traceback" not in rest


def test_only_waiting_is_interrupted() -> None:
    """Writing goes on; the next wait ends at once."""
    steps = []
    with Interrupts() as interrupts:
        os.kill(os.getpid(), signal.SIGINT)
        steps.append("written")
        with pytest.raises(KeyboardInterrupt), interrupts.waiting():
            steps.append("waited")
    assert steps == ["written"]
    assert interrupts.came
    with Interrupts() as interrupts, pytest.raises(KeyboardInterrupt), interrupts.waiting():
        os.kill(os.getpid(), signal.SIGINT)


def test_a_second_time_ends_the_process_at_once() -> None:
    """Whatever it waits for."""
    code = """
import os, signal
from service.cli.interrupts import Interrupts
from service.client import Limits, Model
from tests.conftest import Ahse
with Interrupts():
    os.kill(os.getpid(), signal.SIGINT)
    os.kill(os.getpid(), signal.SIGINT)
    print("still there")
"""
    done = subprocess.run(  # noqa: S603  (our own interpreter and code)
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")
