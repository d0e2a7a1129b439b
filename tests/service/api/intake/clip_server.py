"""A web server on the loopback interface that answers with given bytes, and the network that leads to it."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Mapping
from ipaddress import ip_address
from typing import Self

from service.api.intake.public_network import Address, PublicNetwork

WAIT_S = 60.0


def ok(content: bytes, *headers: str, status: str = "200 OK") -> bytes:
    """An answer with a body of known length."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(content)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + content


def redirect(location: str, status: int = 302) -> bytes:
    """An answer that leads elsewhere."""
    return f"HTTP/1.1 {status} x\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n".encode()


class ClipServer:
    """Answers each path with fixed bytes and closes; what is not in `answers` gets 404.

    Args:
        answers: Bytes by path and query. Sent as they are; see `stalls`.
        stalls: After these paths' bytes the connection is left open until the server is closed.
        tls: Serves https.

    Attributes:
        heads: The requests without bodies, in order.
        entered: Released for each request.
    """

    def __init__(
        self,
        answers: Mapping[str, bytes],
        stalls: frozenset[str] = frozenset(),
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._answers, self._stalls, self._tls = answers, stalls, tls
        self.heads: list[str] = []
        self.entered = threading.Semaphore(0)
        self._closing = threading.Event()
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self._threads = [threading.Thread(target=self._serve)]

    def url(self, path: str, host: str = "clips.example", scheme: str = "http") -> str:
        """Address of a path."""
        return f"{scheme}://{host}:{self.port}{path}"

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        for thread in self._threads:
            thread.join(WAIT_S)

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            self._threads.append(threading.Thread(target=self._answer, args=[connection]))
            self._threads[-1].start()

    def _answer(self, connection: socket.socket) -> None:
        # A client that leaves, or does not trust the certificate, is no fault of the server.
        with connection, contextlib.suppress(OSError):
            if self._tls is not None:
                connection = self._tls.wrap_socket(connection, server_side=True)
            with connection:
                head = b""
                while not head.endswith(b"\r\n\r\n") and (part := connection.recv(4096)):
                    head += part
                if not head:
                    return
                self.heads.append(head.decode())
                path = head.decode().split(" ")[1]
                connection.sendall(self._answers.get(path, ok(b"", status="404 Not Found")))
                self.entered.release()
                if path in self._stalls:
                    self._closing.wait(WAIT_S)


class Names:
    """A resolver: what it says of each name, one answer after the other; the last one stays.

    Attributes:
        asked: The names, in order.
    """

    def __init__(self, answers: Mapping[str, list[list[str]]]) -> None:
        self._answers = answers
        self.asked: list[str] = []

    async def resolve(self, host: str) -> list[Address]:
        """The next answer for a name; an unknown one is an error."""
        answers = self._answers.get(host)
        if answers is None:
            raise socket.gaierror(socket.EAI_NONAME, "unknown")
        n_asked = self.asked.count(host)
        self.asked.append(host)
        return [ip_address(address) for address in answers[min(n_asked, len(answers) - 1)]]


def loopback_network(names: Names | None = None) -> PublicNetwork:
    """Reaches 127.0.0.1 and nothing else; `clips.example` is there."""
    names = names or Names({"clips.example": [["127.0.0.1"]]})
    return PublicNetwork(names.resolve, lambda address: str(address) == "127.0.0.1")
