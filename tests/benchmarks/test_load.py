"""Clients of a benchmark."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from benchmarks.load import measure


@pytest.fixture
def port() -> Iterator[int]:
    """Of a server that answers what it was sent, and refuses the empty body."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Echo)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


def test_every_request_is_sent_once(port: int) -> None:
    """By any of the clients."""
    sent: list[int] = []

    def body_of(number: int) -> bytes:
        sent.append(number)
        return b'{"timings_ms": {"rank": 2.0}}'

    found = measure(port, body_of, n_clients=3, n_requests=10)
    assert sorted(sent) == list(range(10))
    assert found.n_requests == 10
    assert found.steps_ms == {"rank": 2.0}


def test_a_request_that_is_refused_ends_the_measurement_and_says_why(port: int) -> None:
    """Its time would be no time of an answer."""
    with pytest.raises(SystemExit, match="1 of 4 requests were not answered: answered 400: refused"):
        measure(port, lambda number: b"" if number == 2 else b"{}", n_clients=2, n_requests=4)


class _Echo(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """Answer."""
        content = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200 if content else 400)
        answer = content or b"refused"
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Say nothing."""
