"""What is sent again and when, and what is said when that does not help: with scripted services."""

from __future__ import annotations

import asyncio
import io
import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import httpx2
import pytest

from service.client import (
    AsyncClient,
    Client,
    ClientError,
    ConnectionLostError,
    InvalidArgumentError,
    ServiceError,
    UnreachableError,
)
from service.client.connection import Connection
from service.client.upload import opened, rewind
from service.settings import Settings

INFO = {
    "version": "1",
    "default_bundle": "a",
    "bundles": ["a"],
    "limits": {
        "max_upload_bytes": 1,
        "max_json_bytes": 1,
        "max_files": 1,
        "max_labels": 1,
        "max_labels_per_set": 1,
        "max_duration_s": 1.0,
        "max_segments": 1,
    },
}
TIME = "2026-01-01T00:00:00+00:00"
SET: dict[str, Any] = {"name": "s", "labels": [], "templates": None, "guarantee": None, "n_labels": 0}
SET |= {"etag": "e", "created": TIME, "updated": TIME}
Reply = httpx2.Response | Exception
URL = "http://service.example"


class Script(httpx2.BaseTransport, httpx2.AsyncBaseTransport):
    """Gives one reply after the other, and keeps the requests."""

    def __init__(self, *replies: Reply) -> None:
        self._replies = iter(replies)
        self.requests: list[httpx2.Request] = []
        self.bodies: list[bytes] = []

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """The next reply."""
        self.bodies.append(request.read())
        return self._next(request)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """The next reply."""
        self.bodies.append(await request.aread())
        return self._next(request)

    def _next(self, request: httpx2.Request) -> httpx2.Response:
        self.requests.append(request)
        reply = next(self._replies)
        if isinstance(reply, Exception):
            raise reply
        return reply


def _problem(status: int, code: str = "overloaded", **headers: str) -> httpx2.Response:
    body = {"code": code, "detail": "try later", "request_id": "r1"}
    return httpx2.Response(
        status,
        json=body,
        headers={name.replace("_", "-"): value for name, value in headers.items()}
        | {"Content-Type": "application/problem+json"},
    )


def _ask(script: Script, method: str, *args: Any, **options: Any) -> tuple[Any, list[float]]:
    """Call a method; its answer or error, and the waits between tries."""
    waits: list[float] = []
    with Client(URL, transport=script, key="") as client:
        client._sleep = waits.append
        try:
            return getattr(client, method)(*args, **options), waits
        except ClientError as error:
            return error, waits


def test_an_overloaded_service_is_asked_again_when_it_says() -> None:
    """429 with Retry-After, then an answer; the clip is sent whole again."""
    script = Script(_problem(429, Retry_After="7"), _problem(503), httpx2.Response(200, json={}))
    error, waits = _ask(script, "classify", b"the clip", labels=["a", "b"])
    assert error.code == "unexpected_answer"
    assert waits[0] == 7
    assert 0 < waits[1] <= 8
    assert [b"the clip" in body for body in script.bodies] == 3 * [True]


def test_the_awaiting_client_waits_in_the_same_way() -> None:
    """Through its own sleep."""
    script = Script(_problem(429, Retry_After="7"), httpx2.Response(200, json=INFO))
    waits: list[float] = []

    async def ask() -> str:
        async def sleep(seconds: float) -> None:
            waits.append(seconds)

        async with AsyncClient(URL, transport=script, key="") as client:
            client._sleep = sleep
            return (await client.info()).version

    assert asyncio.run(ask()) == "1"
    assert waits == [7]


def test_a_date_to_try_again_is_understood() -> None:
    """Proxies send those."""
    moment = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    _, waits = _ask(Script(_problem(503, Retry_After=moment), httpx2.Response(200, json=INFO)), "info")
    assert 20 < waits[0] <= 30


def test_a_wait_that_is_too_long_is_left_to_the_caller() -> None:
    """A quota of a day is not slept through; the error has the seconds."""
    error, waits = _ask(Script(_problem(429, "rate_limited", Retry_After="3600")), "info")
    assert isinstance(error, ServiceError)
    assert waits == []
    assert (error.code, error.retry_after_s, error.request_id) == ("rate_limited", 3600, "r1")


def test_the_number_of_tries_is_bounded() -> None:
    """The first and four more; the waits grow."""
    script = Script(*(_problem(503) for _ in range(5)))
    error, waits = _ask(script, "info")
    assert (error.status, error.detail, len(waits)) == (503, "try later", 4)
    assert [longest / 2 <= wait <= longest for wait, longest in zip(waits, (0.5, 1, 2, 4), strict=True)] == (
        4 * [True]
    )


@pytest.mark.parametrize("status", [400, 401, 404, 413, 415, 422, 500])
def test_other_errors_are_not_asked_again(status: int) -> None:
    """The same request would fail in the same way."""
    error, waits = _ask(Script(_problem(status)), "info")
    assert (error.status, waits) == (status, [])


CHANGES = [
    ("put_label_set", ("s", ["a"]), {}),
    ("put_label_set", ("s", ["a"]), {"if_match": "e"}),
    ("put_label_set", ("s", ["a"]), {"is_new": True, "warm": True}),
    ("add_labels", ("s", ["a"]), {}),
    ("add_labels", ("s", ["a"]), {"if_match": "e", "warm": True}),
    ("remove_label", ("s", "a"), {}),
    ("delete_label_set", ("s",), {"if_match": "e"}),
]


@pytest.mark.parametrize(("method", "args", "options"), CHANGES)
@pytest.mark.parametrize(
    "first",
    [httpx2.ReadError("cut"), httpx2.ConnectError("refused"), _problem(429), _problem(503), _problem(504)],
    ids=repr,
)
def test_a_change_is_sent_again_under_the_same_id(
    method: str, args: tuple[Any, ...], options: dict[str, Any], first: Reply
) -> None:
    """By which the service makes it once, whether the first try was carried out or not."""
    script = Script(first, httpx2.Response(200, json=SET), httpx2.Response(200, json=SET))
    _, waits = _ask(script, method, *args, **options)
    assert len(waits) == 1
    _ask(script, method, *args, **options)
    first_id, again, of_next_call = (request.headers["X-Request-ID"] for request in script.requests)
    assert first_id == again != of_next_call
    assert [request.url.query for request in script.requests] == 3 * [b"warm=true" * ("warm" in options)]


@pytest.mark.parametrize(("first", "n_waits"), [(httpx2.ReadError("cut"), 0), (_problem(429), 1)], ids=repr)
def test_a_job_is_deleted_once(first: Reply, n_waits: int) -> None:
    """Whether a second try finds it gone, or somebody else's, could not be told."""
    outcome, waits = _ask(Script(first, httpx2.Response(204)), "delete_job", "job_1")
    assert len(waits) == n_waits
    assert isinstance(outcome, ClientError) is (n_waits == 0)


def test_a_clip_that_can_be_read_once_is_sent_once() -> None:
    """Half of it would be missing the second time."""

    class Pipe(io.BytesIO):
        def seekable(self) -> bool:
            return False

    error, waits = _ask(Script(_problem(429)), "classify", Pipe(b"clip"), labels=["a"])
    assert (error.code, waits) == ("overloaded", [])


def test_a_job_is_sent_again_under_the_same_name() -> None:
    """Whether the first try was carried out is not known: the name keeps it from becoming two jobs."""
    job = {"id": "job_1", "state": "queued", "n_clips": 1, "n_done": 0, "n_failed": 0, "progress": 0.0}
    job |= {"created": TIME, "started": None, "ended": None, "expires": None, "webhook": None}
    script = Script(httpx2.ReadError("cut"), httpx2.Response(202, json=job))
    made, waits = _ask(script, "create_job", [b"the clip"], labels=["a", "b"])
    assert (made.id, made.started, len(waits)) == ("job_1", None, 1)
    first, second = (request.headers["Idempotency-Key"] for request in script.requests)
    assert first == second


def test_progress_begins_anew_with_each_try() -> None:
    """Of all clips together: those that a try does not reach have not been sent by it."""
    script, sent = Script(_problem(503), _problem(422)), list[tuple[int, int | None]]()
    clips = [bytes(100_000), bytes(100_000)]
    _ask(script, "create_job", clips, labels=["a", "b"], progress=lambda *n: sent.append(n))
    of_one_try = [(65_536, 200_000), (100_000, 200_000), (165_536, 200_000), (200_000, 200_000)]
    assert sent == 2 * of_one_try


def test_a_path_is_open_only_while_it_is_sent(tmp_path: Path) -> None:
    """Not while its request waits for a connection, nor between two tries: thousands may do so at once."""
    path = tmp_path / "clip.mp4"
    path.write_bytes(b"a clip")

    def n_open() -> int:
        return [one.resolve() for one in Path("/proc/self/fd").iterdir()].count(path.resolve())

    with opened([path], None) as (upload,):
        assert (n_open(), upload.n_total) == (0, 6)
        assert (upload.read(2), n_open()) == (b"a ", 1)
        upload.seek(0)
        assert n_open() == 0
        assert (upload.read(), upload.read(), n_open()) == (b"a clip", b"", 0)
        rewind([upload])
        assert (upload.read(4), n_open()) == (b"a cl", 1)
    assert n_open() == 0
    waiting: list[int] = []
    with Client(URL, transport=_Refusing(), key="", retries=1) as client:
        client._sleep = lambda _: waiting.append(n_open())
        with pytest.raises(ServiceError):
            client.classify(path, labels=["a"])
    assert waiting == [0]


class _Refusing(httpx2.BaseTransport):
    """Refuses a request in the middle of its clip."""

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        assert isinstance(request.stream, httpx2.SyncByteStream)
        assert any(b"a clip" in chunk for chunk in request.stream)
        return _problem(429)


def test_silence_is_not_waited_for_twice() -> None:
    """The service was silent for the whole time that it may take."""
    error, waits = _ask(Script(httpx2.ReadTimeout("slow")), "info")
    assert isinstance(error, ConnectionLostError)
    assert "did not answer in time" in error.message
    assert waits == []


def test_health_is_asked_once() -> None:
    """Not ready is an answer; any other error is one."""
    health, waits = _ask(Script(_problem(503, "not_ready", Retry_After="5")), "health")
    assert (health.ready, health.detail, waits) == (False, "try later", [])
    error, _ = _ask(Script(_problem(401, "unauthenticated")), "health")
    assert error.code == "unauthenticated"


@pytest.mark.parametrize(
    ("reply", "says"),
    [
        (
            httpx2.Response(500, html="<h1>nginx</h1>"),
            "500 Internal Server Error, without a reason",
        ),
        (httpx2.Response(413, text="Too  much\nfor me"), "413 Content Too Large: Too much for me."),
        (httpx2.Response(400, json=["no problem"]), "400 Bad Request, without a reason"),
        (httpx2.Response(307, headers={"Location": "https://x/v1/info"}), "redirects to https://x/v1/info"),
        (httpx2.Response(200, html="<h1>It works</h1>"), "is not this service"),
        (httpx2.Response(200, json={"version": "1"}), "is not this service"),
        (httpx2.Response(200, json=[]), "is not this service"),
    ],
    ids=repr,
)
def test_answers_that_are_not_of_the_service_are_named_as_such(reply: httpx2.Response, says: str) -> None:
    """By a proxy before it, or another program at its address. Redirects would lead the key elsewhere."""
    error, _ = _ask(Script(reply), "info")
    assert isinstance(error, ServiceError)
    assert says in error.detail
    assert error.code in ("http_error", "unexpected_answer")


@contextmanager
def _listening(serve: Callable[[socket.socket], None], n_connections: int) -> Iterator[str]:
    """A server that treats so many connections in its own way, and the address of it."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def run() -> None:
            for _ in range(n_connections):
                connection, _ = server.accept()
                with connection:
                    serve(connection)

        thread = threading.Thread(target=run)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        thread.join()


def test_a_client_sends_fewer_requests_at_a_time_than_a_service_takes() -> None:
    """What has to wait for a connection has no deadline."""

    class Options(Connection):
        def _open(self, options: dict[str, Any]) -> None:
            self.options = options

    for client, n_expected in ((Options(URL), 100), (Options(URL, max_connections=256), 256)):
        limits = client.options["limits"]
        assert limits.max_connections == limits.max_keepalive_connections == n_expected
        assert client.options["timeout"].pool is None
    settings = Settings()
    assert settings.max_concurrency + settings.max_waiting > 100


def test_many_requests_at_once_have_a_connection_each() -> None:
    """As many as `ahse classify --jobs` may ask for."""
    n_requests = 256

    def serve(server: socket.socket) -> None:
        with ExitStack() as stack:
            held = [stack.enter_context(server.accept()[0]) for _ in range(n_requests)]
            body = json.dumps(INFO).encode()
            for connection in held:
                connection.recv(2**16)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)

    async def ask(url: str) -> int:
        async with AsyncClient(url, key="", retries=0, max_connections=n_requests) as client:
            return len(await asyncio.gather(*(client.info() for _ in range(n_requests))))

    with socket.create_server(("127.0.0.1", 0), backlog=n_requests) as server:
        server.settimeout(30)
        thread = threading.Thread(target=serve, args=[server])
        thread.start()
        assert asyncio.run(ask(f"http://127.0.0.1:{server.getsockname()[1]}")) == n_requests
        thread.join()


def _cut_the_upload(connection: socket.socket) -> None:
    connection.recv(1000)


def _cut_the_answer(connection: socket.socket) -> None:
    received = b""
    while b"--\r\n" not in received:
        received += connection.recv(2**16)
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 999\r\n\r\n{")


@pytest.mark.parametrize("cut", [_cut_the_upload, _cut_the_answer])
def test_a_connection_that_is_cut_is_made_again_and_then_told(cut: Callable[[socket.socket], None]) -> None:
    """In the upload, and in the answer; the message has the number of tries."""
    with _listening(cut, 3) as url, Client(url, retries=2, key="") as client:
        client._sleep = lambda _: None
        with pytest.raises(ConnectionLostError, match=r"was lost .* \(3 tries\)") as caught:
            client.classify(bytes(2**22 if cut is _cut_the_upload else 10), labels=["a"])
    assert caught.value.code == "connection_lost"


def test_a_refusal_during_the_upload_is_read() -> None:
    """The service answers 413 before the whole clip was sent, and closes."""

    def refuse(connection: socket.socket) -> None:
        connection.recv(2**16)
        body = b'{"code": "body_too_large", "detail": "at most 5 bytes"}'
        head = f"HTTP/1.1 413 X\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
        connection.sendall(head.encode() + body)
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(2**16):
            pass

    with (
        _listening(refuse, 1) as url,
        Client(url, key="") as client,
        pytest.raises(ServiceError, match="at most 5 bytes"),
    ):
        client.classify(bytes(2**22), labels=["a"])


def test_a_service_that_is_not_there_is_named() -> None:
    """A port without a listener."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
        with Client(url, retries=0, key="") as client, pytest.raises(UnreachableError, match=url):
            client.info()


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("127.0.0.1:8000", "no address of a service"),
        ("ftp://host", "no address of a service"),
        ("http://", "no address of a service"),
        ("http://host:port", "no address of a service"),
        ("http://[::1", "no address of a service"),
        ("http://a b/", "no address of a service"),
        ("http://me:secret@host", "give the API key as the key"),
        ("http://host/?a=b", "ends before"),
    ],
)
def test_addresses_that_can_not_be_meant_are_refused(url: str, says: str) -> None:
    """Before any request, with the form of a right one; a password is not repeated."""
    with pytest.raises(InvalidArgumentError, match=says) as caught:
        Client(url)
    assert "secret" not in caught.value.message


def test_a_path_before_the_service_is_kept() -> None:
    """A proxy may have put it under one."""
    script = Script(httpx2.Response(200, json=INFO))
    with Client(f"{URL}/ahse/", transport=script, key="k") as client:
        client.info()
    assert script.requests[0].url == f"{URL}/ahse/v1/info"
    assert script.requests[0].headers["Authorization"] == "Bearer k"


def test_arguments_that_no_service_would_accept_are_refused() -> None:
    """A text in place of a list would be one name a letter."""
    with Client(URL, transport=Script(), key="") as client:
        for wrong in (
            lambda: client.classify(b"clip", labels="dog"),
            lambda: client.classify(labels=["dog"]),
            lambda: client.classify(b"clip", url="http://x/y", labels=["dog"]),
            lambda: client.classify(io.StringIO("clip"), labels=["dog"]),  # type: ignore[arg-type]
            lambda: client.create_job(labels=["dog"]),
            lambda: client.create_job("clip.mp4", labels=["dog"]),
            lambda: client.create_job(Path("clip.mp4"), labels=["dog"]),  # type: ignore[arg-type]
            lambda: client.create_job(io.BytesIO(b"clip"), labels=["dog"]),  # type: ignore[arg-type]
            lambda: client.create_job([b"clip"], labels=["dog"], idempotency_key=""),
            lambda: client.create_job([b"clip"], labels=["dog"], idempotency_key="schlüssel"),
            lambda: client.add_labels("s", "dog"),
            lambda: client.remove_label("s", ""),
            lambda: Client(URL, key="two words"),
        ):
            with pytest.raises(InvalidArgumentError):
                wrong()
        with pytest.raises(FileNotFoundError):
            client.classify("nowhere.mp4", labels=["dog"])
