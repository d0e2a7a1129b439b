"""The workers of one service, which share a port and ask each other for what concerns them all."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Client, Listener
from pathlib import Path
from typing import Any

_BACKLOG = 16


@dataclass(frozen=True)
class Worker:
    """One of the workers of a service.

    Attributes:
        number: From 0.
        n_workers: How many there are.
        folder: Where each listens to the others; only their user may open it.
    """

    number: int
    n_workers: int
    folder: Path

    def address(self, number: int) -> str:
        """Of the Unix socket of a worker."""
        return str(self.folder / str(number))


class Siblings:
    """Answers the other workers, and asks them.

    Args:
        worker: This one.
        answers: What is asked, and the function that answers. Its arguments and results can be pickled, and
            it does not raise.
    """

    def __init__(self, worker: Worker, answers: Mapping[str, Callable[..., Any]]) -> None:
        self.worker = worker
        self._answers = answers
        # A worker that ended in the middle has left its own.
        Path(worker.address(worker.number)).unlink(missing_ok=True)
        self._listener = Listener(worker.address(worker.number), "AF_UNIX", _BACKLOG)
        threading.Thread(target=self._answer_always, name="siblings", daemon=True).start()

    def ask(self, what: str, *arguments: Any, timeout_s: float) -> dict[int, Any]:
        """What each of the others answers, by its number; without those that do not answer in time."""
        others = [one for one in range(self.worker.n_workers) if one != self.worker.number]

        def ask(number: int) -> dict[int, Any]:
            with suppress(OSError, EOFError), Client(self.worker.address(number), "AF_UNIX") as connection:
                connection.send((what, arguments))
                if connection.poll(timeout_s):
                    return {number: connection.recv()}
            return {}

        with ThreadPoolExecutor(len(others)) as threads:
            answers = list(threads.map(ask, others))
        return {number: answer for found in answers for number, answer in found.items()}

    def close(self) -> None:
        """Answer no more."""
        self._listener.close()

    def _answer_always(self) -> None:
        while True:
            try:
                connection = self._listener.accept()
            except OSError:  # closed
                return
            # One may take long, such as a bundle that is loaded.
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: Any) -> None:
        with suppress(OSError, EOFError), connection:
            what, arguments = connection.recv()
            connection.send(self._answers[what](*arguments))
