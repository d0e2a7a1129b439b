"""Progress of long work: lines for a log, and bars with the time left for a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

Progress = Callable[[str], None]
"""Called with a line of text now and then."""

BarProgress = Callable[[str, int, int], None]
"""Called with the name of a bar, the steps done, and the steps in all."""


def unreported(name: str, n_done: int, n_total: int) -> None:
    """A BarProgress that tells nobody."""


@contextmanager
def progress_bars(names: Sequence[str], *, show: bool) -> Iterator[BarProgress]:
    """Show bars on standard error while the block runs.

    Args:
        names: One bar each.
        show: Where false nothing is shown, and the calls do nothing.
    """
    # Imported here because the command line imports this file for its types alone.
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Bars(*columns, console=Console(stderr=True), disable=not show) as bars:
        tasks = {name: bars.add_task(name, total=None) for name in names}

        def report(name: str, n_done: int, n_total: int) -> None:
            bars.update(tasks[name], completed=n_done, total=n_total)

        yield report
