"""Connections of a real server, by sockets that send bytes one by one, too much, or nothing."""

from __future__ import annotations

import asyncio
import json
import select
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from service.api import connections
from service.api.connections import BoundedConnection, ConnectionBounds

WAIT_S = 30.0
GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
LARGE = 64 * 2**20


class _App:
    """Answers `/` at once, `/held` when it is let, `/large` with more than sockets hold."""

    def __init__(self) -> None:
        self.entered = threading.Semaphore(0)
        self.go_on = threading.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request without reading its body."""
        del receive
        body = b"x" * LARGE if scope["path"] == "/large" else b"ok"
        if scope["path"] == "/held":
            self.entered.release()
            await asyncio.to_thread(self.go_on.wait, WAIT_S)
        length = (b"content-length", str(len(body)).encode())
        await send({"type": "http.response.start", "status": 200, "headers": [length]})
        await send({"type": "http.response.body", "body": body})


@contextmanager
def _serving(app: _App, max_connections: int = 100, header_timeout_s: float = WAIT_S) -> Iterator[int]:
    """A server in a thread; its port."""
    bounds = ConnectionBounds(max_connections, header_timeout_s, min_bytes_per_s=1_000)
    config = uvicorn.Config(app, http=BoundedConnection.within(bounds), lifespan="off", log_config=None)
    server, started = uvicorn.Server(config), threading.Event()

    async def startup(*args: Any, **options: Any) -> None:
        await original(*args, **options)
        started.set()

    original, server.startup = server.startup, startup  # type: ignore[method-assign]
    with socket.create_server(("127.0.0.1", 0), backlog=512) as listening:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        assert started.wait(WAIT_S)
        try:
            yield listening.getsockname()[1]
        finally:
            app.go_on.set()
            server.should_exit = True
            thread.join(WAIT_S)


def _connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=WAIT_S)


def _rest(client: socket.socket) -> bytes:
    """All that comes until the server closes the connection."""
    return b"".join(iter(lambda: client.recv(2**16), b""))


def _is_closed(client: socket.socket) -> bool:
    """Waits for what comes next: the end, in order or by a reset, or more bytes."""
    try:
        return client.recv(1) == b""
    except ConnectionResetError:
        return True


def _problem(answer: bytes) -> tuple[int, str]:
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"content-type: application/problem+json" in head
    return int(head.split()[1]), str(json.loads(body)["code"])


def test_half_a_header_is_answered_and_closed() -> None:
    """It was kept for ever."""
    with _serving(_App(), header_timeout_s=0.2) as port, _connect(port) as client:
        client.sendall(GET[:-4])
        assert _problem(_rest(client)) == (408, "header_timeout")


def test_half_a_header_behind_a_request_is_closed_too() -> None:
    """Uvicorn's timer of idle connections ends with the first byte."""
    with _serving(_App(), header_timeout_s=0.2) as port, _connect(port) as client:
        client.sendall(GET + GET[:-4])
        ok, timeout = _rest(client).split(b"HTTP/1.1 408")
        assert ok.endswith(b"ok")
        assert b"header_timeout" in timeout


def test_a_connection_without_a_request_is_closed() -> None:
    """Without an answer, since nothing was asked."""
    with _serving(_App(), header_timeout_s=0.2) as port, _connect(port) as client:
        assert _is_closed(client)


def test_idle_connections_make_room_for_new_ones() -> None:
    """300 idle ones stopped even health where 256 files may be open; here 40 of 20."""
    with _serving(_App(), max_connections=20) as port, ExitStack() as stack:
        idle = [stack.enter_context(_connect(port)) for _ in range(40)]
        asking = stack.enter_context(_connect(port))
        asking.sendall(GET)
        assert asking.recv(2**16).startswith(b"HTTP/1.1 200")
        # The ones that have waited longest had to go; the last is still there.
        assert all(_is_closed(one) for one in idle[:20])
        idle[-1].sendall(GET)
        assert idle[-1].recv(2**16).startswith(b"HTTP/1.1 200")


def test_where_all_are_being_answered_a_new_one_is_told() -> None:
    """With a status and Retry-After, not by silence."""
    app = _App()
    with _serving(app, max_connections=3) as port, ExitStack() as stack:
        busy = [stack.enter_context(_connect(port)) for _ in range(3)]
        for one in busy:
            one.sendall(GET.replace(b"/ ", b"/held "))
            assert app.entered.acquire(timeout=WAIT_S)
        with _connect(port) as refused:
            answer = _rest(refused)
        assert _problem(answer) == (503, "too_many_connections")
        assert b"retry-after:" in answer
        app.go_on.set()
        for one in busy:
            assert one.recv(2**16).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("connection", ["keep-alive", "close"])
def test_a_client_that_is_still_sending_sees_its_answer(connection: str) -> None:
    """It was reset: the connection was closed while its body was on the way."""
    n_bytes = 8 * 2**20
    head = f"POST / HTTP/1.1\r\nHost: x\r\nConnection: {connection}\r\nContent-Length: {n_bytes}\r\n\r\n"
    with _serving(_App()) as port, _connect(port) as client:
        client.sendall(head.encode() + b"x" * 1_000)
        answer = client.recv(2**16, socket.MSG_PEEK)  # it is there before the body is
        assert answer.startswith(b"HTTP/1.1 200")
        client.sendall(b"x" * (n_bytes - 1_000))
        if connection == "keep-alive":
            client.sendall(GET)
        client.shutdown(socket.SHUT_WR)
        assert _rest(client).count(b"HTTP/1.1 200") == (2 if connection == "keep-alive" else 1)


def test_the_rest_of_a_refused_body_is_not_read_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time is up at some point, whatever is announced."""
    monkeypatch.setattr(connections, "_LINGER_S", 0.2)
    head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nx"
    with _serving(_App()) as port, _connect(port) as client:
        client.sendall(head)
        answer = b""
        while not answer.endswith(b"ok"):
            answer += client.recv(2**16)
        assert _is_closed(client)


def test_a_client_that_does_not_read_its_answer_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would hold the answer in memory for as long as it likes."""
    monkeypatch.setattr(connections, "_READING_S", 0.2)
    with _serving(_App()) as port, _connect(port) as client:
        client.sendall(GET.replace(b"/ ", b"/large "))
        reset = select.poll()
        reset.register(client, 0)  # errors are always reported
        assert reset.poll(WAIT_S * 1_000)
        with pytest.raises(ConnectionResetError):
            _rest(client)


def test_a_client_that_reads_gets_all_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """However much it is."""
    monkeypatch.setattr(connections, "_READING_S", 5.0)
    with _serving(_App()) as port, _connect(port) as client:
        client.sendall(GET.replace(b"/ ", b"/large ").replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        assert len(_rest(client).partition(b"\r\n\r\n")[2]) == LARGE


@pytest.mark.parametrize(
    "nonsense", [b"\x16\x03\x01\x02\x00\x01\r\n\r\n", b"GET /\r\n\r\n", b"\xff" * 100_000]
)
def test_what_is_not_http_gets_a_problem_in_our_words(nonsense: bytes) -> None:
    """TLS on a plain port, HTTP/0.9, and noise longer than a header may be."""
    with _serving(_App()) as port, _connect(port) as client:
        client.sendall(nonsense)
        client.shutdown(socket.SHUT_WR)
        assert _problem(_rest(client)) == (400, "malformed_request")
