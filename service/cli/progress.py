"""A progress bar with the time that is left, on standard error where that is a terminal."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

import typer

from service.cli.clip_files import ClipFile


class Display(Protocol):
    """Where results and messages go while clips are ranked."""

    def sent(self, clip: ClipFile) -> Callable[[int, int | None], object]:
        """What to call with the bytes of a clip that were sent, and all of them."""

    def done(self, clip: ClipFile) -> None:
        """Count a clip as done."""

    def result(self, text: str) -> None:
        """Print to standard output."""

    def message(self, text: str) -> None:
        """Print to standard error."""


class CountingDisplay(Display, Protocol):
    """One to which several clips can be told at once."""

    def add(self, n_clips: int, n_bytes: int) -> None:
        """Count clips as done, of so many bytes together."""


class _Plain:
    """No terminal: no bar."""

    def sent(self, clip: ClipFile) -> Callable[[int, int | None], object]:
        """Ignored."""
        del clip
        return lambda _, __: None

    def done(self, clip: ClipFile) -> None:
        """Ignored."""

    def add(self, n_clips: int, n_bytes: int) -> None:
        """Ignored."""

    def result(self, text: str) -> None:
        """Print to standard output."""
        typer.echo(text)

    def message(self, text: str) -> None:
        """Print to standard error."""
        typer.echo(text, err=True)


class _Bar(_Plain):
    """A bar that measures bytes: they tell more of the time that is left than the number of clips."""

    def __init__(self, n_clips: int, n_bytes: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

        self._console = Console(stderr=True)
        self.bar = Progress(
            TextColumn("{task.fields[n_done]}/{task.fields[n_clips]} clips"),
            BarColumn(),
            TextColumn("{task.percentage:3.0f}%"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self._console,
            redirect_stdout=False,
            redirect_stderr=False,
            transient=True,
        )
        self._task = self.bar.add_task("", total=n_bytes, n_done=0, n_clips=n_clips)
        self._n_done = 0
        self._done_bytes = 0
        self._sent_bytes: dict[str, int] = {}
        self._lock = threading.Lock()

    def sent(self, clip: ClipFile) -> Callable[[int, int | None], object]:
        """Half of a clip is its upload, half the work on it."""

        def report(n_bytes: int, _: int | None) -> None:
            with self._lock:
                self._sent_bytes[clip.name] = n_bytes // 2
                self._show()

        return report

    def done(self, clip: ClipFile) -> None:
        """Count it."""
        with self._lock:
            self._sent_bytes.pop(clip.name, None)
        self.add(1, weight(clip))

    def add(self, n_clips: int, n_bytes: int) -> None:
        """Count some."""
        with self._lock:
            self._n_done += n_clips
            self._done_bytes += n_bytes
            self._show()

    def _show(self) -> None:
        completed = self._done_bytes + sum(self._sent_bytes.values())
        self.bar.update(self._task, completed=completed, n_done=self._n_done)

    def result(self, text: str) -> None:
        """Print above the bar where both are on the terminal."""
        if sys.stdout.isatty():
            self.message(text)
        else:
            typer.echo(text)

    def message(self, text: str) -> None:
        """Print above the bar."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)


def weight(clip: ClipFile) -> int:
    """What a clip counts, in bytes."""
    return clip.size_bytes or 1


@contextmanager
def shown(n_clips: int, n_bytes: int) -> Iterator[CountingDisplay]:
    """Show the progress of clips inside the `with` block, if standard error is a terminal.

    Args:
        n_clips: That will be done.
        n_bytes: What they count together.
    """
    if not sys.stderr.isatty():
        yield _Plain()
        return
    display = _Bar(n_clips, n_bytes)
    with display.bar:
        yield display
