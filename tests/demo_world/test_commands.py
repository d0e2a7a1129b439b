"""`python -m demo_world`, and that the product does not need it."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from demo_world.__main__ import main

ROOT = Path(__file__).resolve().parents[2]


def run(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    """The exit code of the command in this process."""
    monkeypatch.setattr("sys.argv", ["demo_world", *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def _python(*words: str) -> str:
    """What Python prints in a process of its own."""
    done = subprocess.run(  # noqa: S603  (our own interpreter and code)
        [sys.executable, *words], capture_output=True, text=True, cwd=ROOT, check=True
    )
    return done.stdout


def test_help_names_every_command() -> None:
    """Under the name by which it is called."""
    said = _python("-m", "demo_world", "--help")
    assert all(word in said for word in ("python -m demo_world", "build", "evaluate", "clips", "dataset"))


def test_nothing_heavy_is_imported_before_a_command_needs_it() -> None:
    """Help and processes that record clips do without torch."""
    code = "import sys, demo_world.__main__, demo_world.corpus; print('torch' in sys.modules)"
    assert _python("-c", code) == "False\n"


def test_clips_are_recorded_and_counted(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """One clip of each of two classes, in folders of their names."""
    out = tmp_path / "mine"
    assert run(monkeypatch, "clips", out, "--classes", 2, "--per-class", 1) == 0
    assert "1 clips of each of 2 classes" in capsys.readouterr().out
    assert len(list(out.rglob("*.mp4"))) == 2


def test_an_expected_error_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Exit code 2, as `ahse` has it."""
    (tmp_path / "something").touch()
    assert run(monkeypatch, "clips", tmp_path) == 2
    error = capsys.readouterr().err
    assert error.endswith("is not empty; choose another folder [folder_taken]\n")
    assert "Traceback" not in error


def test_no_shell_completion_is_offered(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would write a command of several words into a shell's start file."""
    assert run(monkeypatch, "--install-completion") == 2


@pytest.mark.parametrize("package", ["service", "model_export"])
def test_the_product_does_not_import_the_demo_world(package: str) -> None:
    """It is not in the wheel."""
    for path in (ROOT / package).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not any(name.split(".")[0] == "demo_world" for name in names), path
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert "demo_world" not in project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
