"""The workers of one service, which share a port and ask each other for what concerns them all."""

from __future__ import annotations

import hmac
import json
import socket
import socketserver
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from ctypes import c_bool
from dataclasses import dataclass, field
from pathlib import Path

_READ_BYTES = 2**16


@dataclass(frozen=True)
class Worker:
    """One of the workers of a service.

    Attributes:
        number: From 0.
        n_workers: How many there are.
        folder: Where each listens to the others; only their user may open it.
        key: What each proves with that it is one of them: decoders are of the same user.
        seen_key: Whether any of them has seen an API key; in memory that they share.
    """

    number: int
    n_workers: int
    folder: Path
    key: str = field(repr=False)
    seen_key: c_bool = field(default_factory=c_bool, repr=False)

    def address(self, number: int) -> str:
        """Of the Unix socket of a worker."""
        return str(self.folder / str(number))


class Siblings:
    """Answers the other workers, and asks them: a line of JSON, and a text until the connection ends.

    Args:
        worker: This one.
        answers: What is asked, and the function that answers with a text; it does not raise.
    """

    def __init__(self, worker: Worker, answers: Mapping[str, Callable[..., str]]) -> None:
        self.worker = worker
        worker.folder.mkdir(mode=0o700, exist_ok=True)  # the last one to end removes it
        # A worker that was killed has left its own.
        Path(worker.address(worker.number)).unlink(missing_ok=True)
        self._server = _Server(worker, answers)
        threading.Thread(target=self._server.serve_forever, name="siblings", daemon=True).start()

    def ask(self, what: str, *arguments: str, timeout_s: float) -> dict[int, str]:
        """What each of the others answers, by its number; without those that do not answer in time.

        Args:
            what: A key of their answers.
            arguments: Of that function.
            timeout_s: Longest pause of one of them.
        """
        asked = json.dumps({"key": self.worker.key, "what": what, "arguments": arguments}).encode() + b"\n"
        others = [one for one in range(self.worker.n_workers) if one != self.worker.number]

        def ask(number: int) -> str | None:
            with suppress(OSError), socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(timeout_s)
                connection.connect(self.worker.address(number))
                connection.sendall(asked)
                return b"".join(iter(lambda: connection.recv(_READ_BYTES), b"")).decode()
            return None

        with ThreadPoolExecutor(len(others)) as threads:
            answers = dict(zip(others, threads.map(ask, others), strict=True))
        return {number: answer for number, answer in answers.items() if answer is not None}

    def close(self) -> None:
        """Answer no more. The last one removes the folder, also where nobody else is left to do it."""
        self._server.shutdown()
        self._server.server_close()
        with suppress(OSError):
            Path(self.worker.address(self.worker.number)).unlink()
            self.worker.folder.rmdir()


class _Server(socketserver.ThreadingUnixStreamServer):
    """Answers each in a thread of its own: one may take long, such as a bundle that is loaded."""

    daemon_threads = True
    request_queue_size = 16

    def __init__(self, worker: Worker, answers: Mapping[str, Callable[..., str]]) -> None:
        self.key, self.answers = worker.key, answers
        super().__init__(worker.address(worker.number), _Handler)


class _Handler(socketserver.StreamRequestHandler):
    server: _Server

    def handle(self) -> None:
        """Answer one question; nothing to whoever does not know the key."""
        try:
            asked = json.loads(self.rfile.readline(_READ_BYTES))
            is_sibling = hmac.compare_digest(asked["key"], self.server.key)
            answer, arguments = self.server.answers[asked["what"]], asked["arguments"]
        except (OSError, ValueError, KeyError, TypeError):
            return
        if is_sibling:
            text = answer(*arguments)
            with suppress(OSError):  # who asked has left
                self.wfile.write(text.encode())
