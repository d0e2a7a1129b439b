"""What shells are told when TAB is pressed: commands, options, and to complete files themselves."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


def _ahse(**variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "service.cli"],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env=os.environ | variables,
    )


# What was typed, and what must be among the answers; None: the shell completes files.
TYPED = [
    ("ahse cl", ["classify"]),
    ("ahse ", ["serve", "classify", "labels", "info", "bundle", "keys"]),
    ("ahse classify --la", ["--label", "--labels-file", "--label-set"]),
    ("ahse labels ", ["ls", "get", "put", "add", "rm"]),
    ("ahse classify ", None),
    ("ahse classify --labels-file ", None),
]


@pytest.mark.parametrize(("typed", "answers"), TYPED)
def test_zsh_and_fish_are_told(typed: str, answers: list[str] | None) -> None:
    """By the two scripts' own protocols."""
    zsh = _ahse(_AHSE_COMPLETE="complete_zsh", _TYPER_COMPLETE_ARGS=typed)
    asked = {"_AHSE_COMPLETE": "complete_fish", "_TYPER_COMPLETE_ARGS": typed}
    fish = _ahse(**asked, _TYPER_COMPLETE_FISH_ACTION="get-args")
    has_answers = _ahse(**asked, _TYPER_COMPLETE_FISH_ACTION="is-args").returncode == 0
    assert (zsh.stderr, fish.stderr) == ("", "")
    assert has_answers is (answers is not None)
    if answers is None:
        assert zsh.stdout.strip() == "_files"
    else:
        assert zsh.stdout.startswith("_arguments '*: :((")
        assert [f'"{answer}"' in zsh.stdout for answer in answers] == [True] * len(answers)
        assert set(answers) <= {line.partition("\t")[0] for line in fish.stdout.splitlines()}


@pytest.mark.parametrize(("typed", "answers"), TYPED)
def test_bash_completes(typed: str, answers: list[str] | None, tmp_path: Path) -> None:
    """In a real bash, with the script that `--show-completion` prints."""
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("bash is not installed")
    command = tmp_path / "ahse"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m service.cli "$@"\n')
    command.chmod(0o755)
    script = _ahse(_AHSE_COMPLETE="source_bash").stdout
    words = typed.split(" ")
    press = f'COMP_WORDS=({typed} ""); COMP_CWORD={len(words) - 1}; _ahse_completion ahse'
    done = subprocess.run(  # noqa: S603  (fixed arguments)
        [bash, "--norc", "-c", f'{script}\n{press}\nprintf "%s\\n" "${{COMPREPLY[@]}}"; complete -p ahse'],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env=os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"},
    )
    *found, registered = done.stdout.split("\n")[:-1]
    assert done.stderr == ""
    assert registered == "complete -o default -F _ahse_completion ahse"  # default: files
    assert (set(answers) <= set(found)) if answers else found == [""]
