"""The progress bar: on a terminal's standard error, and nowhere else."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

from service.cli.clip_files import ClipFile
from service.cli.progress import _Bar, shown, weight

ROOT = Path(__file__).resolve().parents[3]


def _on_a_terminal(words: list[str], *, stdout: bool) -> tuple[str, str]:
    """What a command prints to a terminal on standard error, and to a pipe on standard output."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(  # noqa: S603  (our own interpreter and code)
        [sys.executable, "-m", "service.cli", *words],
        stdout=theirs if stdout else subprocess.PIPE,
        stderr=theirs,
        cwd=ROOT,
        env=os.environ | {"TERM": "xterm", "COLUMNS": "200"},
    ) as process:
        os.close(theirs)
        shown = b""
        try:
            while chunk := os.read(ours, 2**16):
                shown += chunk
        except OSError:  # the other end is closed
            pass
        out = b"" if process.stdout is None else process.stdout.read()
    os.close(ours)
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode()), out.decode()


def test_a_bar_on_the_terminal_and_results_in_the_pipe(toy_bundle: Path, clips: dict[str, Path]) -> None:
    """Results do not go where the bar is, nor the bar where they are."""
    words = ["classify", *map(str, clips.values()), "--bundle", str(toy_bundle), "--label", "red"]
    bar, out = _on_a_terminal([*words, "--label", "blue"], stdout=False)
    assert "4/4 clips" in bar
    assert "100%" in bar
    assert "left" in bar
    assert "%  red" not in bar
    assert out.count("%  red") == 4
    assert "clips" not in re.sub(r"/\S+", "", out)


def test_results_stand_above_the_bar_on_one_terminal(toy_bundle: Path, clips: dict[str, Path]) -> None:
    """Whole and in order."""
    words = ["classify", *map(str, clips.values()), "--bundle", str(toy_bundle), "--label", "red"]
    seen, _ = _on_a_terminal([*words, "--label", "a name in [square] brackets"], stdout=True)
    assert "4/4 clips" in seen
    assert seen.count("a name in [square] brackets") == 4
    assert [seen.index(str(clip)) for clip in clips.values()] == sorted(
        seen.index(str(clip)) for clip in clips.values()
    )


def test_bytes_that_were_sent_are_half_of_a_clip() -> None:
    """The other half is the work on it; a try that begins again goes back."""
    clips = [ClipFile(name, Path(name), Path(name), 1000, "t") for name in "ab"]
    bar = _Bar(len(clips), sum(map(weight, clips)))
    (task,) = bar.bar.tasks
    report = bar.sent(clips[0])
    seen = []
    for sent in (500, 1000, 0, 1000):
        report(sent, 1000)
        seen.append(task.completed)
    bar.done(clips[0])
    assert seen == [250, 500, 0, 500]
    assert (task.completed, task.total, task.fields["n_done"]) == (1000, 2000, 1)


def test_without_a_terminal_there_is_no_bar() -> None:
    """A log would be full of it."""
    with shown(0, 0) as display:
        assert not isinstance(display, _Bar)
