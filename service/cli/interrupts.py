"""Ctrl-C: exit code 130, no traceback, and what was finished is kept."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import NoReturn, Self

INTERRUPTED = 130
"""Exit code of a program that Ctrl-C has ended: 128 and the number of the signal, as shells have it."""


@contextmanager
def exiting_at_once() -> Iterator[None]:
    """Let Ctrl-C end the process at once inside the `with` block, where nothing could be lost.

    An exception would not do: packages turn it into errors of their own while they are imported.
    """
    before = signal.signal(signal.SIGINT, _exit)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _exit(_number: int, _frame: FrameType | None) -> NoReturn:
    os._exit(INTERRUPTED)


class Interrupts:
    """Lets Ctrl-C interrupt waiting, and nothing else: what is being written is written to its end.

    A second Ctrl-C ends the process at once.

    Attributes:
        came: It was pressed.
    """

    def __init__(self) -> None:
        self.came = False
        self._may_raise = False

    def __enter__(self) -> Self:
        self._before = signal.signal(signal.SIGINT, self._take)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        signal.signal(signal.SIGINT, self._before)

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Raise KeyboardInterrupt inside the `with` block when Ctrl-C is pressed, or was before."""
        self._may_raise = True
        try:
            if self.came:
                raise KeyboardInterrupt
            yield
        finally:
            self._may_raise = False

    def _take(self, number: int, frame: FrameType | None) -> None:
        if self.came:
            _exit(number, frame)
        self.came = True
        if self._may_raise:
            raise KeyboardInterrupt
