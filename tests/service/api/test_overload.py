"""More requests than can be worked on, and clients that leave. Steps wait for events, not for time."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient
from starlette.types import Message

from service.api.app import create_app
from service.api.guard.byte_budget import SMALL_BYTES
from service.api.siblings import Worker
from service.classifier import Classifier
from service.decode.pool import DecodePool
from service.errors import OverloadedError
from service.settings import Settings
from tests.service.api.conftest import classify, wait_until_tried

Clips = dict[str, Path]
WAIT_S = 60.0


class _Held:
    """A method that says when it was entered, and goes on when it is let."""

    def __init__(self, owner: type, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.entered = threading.Semaphore(0)
        self.go_on = threading.Event()
        self.n_ended = 0
        original = getattr(owner, name)

        def waiting(*args: Any, **kwargs: Any) -> Any:
            self.entered.release()
            assert self.go_on.wait(WAIT_S)
            result = original(*args, **kwargs)
            self.n_ended += 1
            return result

        monkeypatch.setattr(owner, name, waiting)


def _app(toy_bundle: Path, tmp_path: Path, **settings: Any) -> FastAPI:
    return create_app(
        Settings(bundles=(toy_bundle,), data_dir=tmp_path / "data", decode_workers=1, **settings)
    )


@pytest.fixture
def body(clips: Clips) -> bytes:
    """A form that asks for one name."""
    name = b'--b\r\nContent-Disposition: form-data; name="labels"\r\n\r\nred\r\n'
    head = b'--b\r\nContent-Disposition: form-data; name="file"; filename="c"\r\n\r\n'
    return name + head + clips["red low"].read_bytes() + b"\r\n--b--\r\n"


class _Asgi:
    """One request to the app; the client leaves when `left` is set, or when it has its answer.

    Args:
        app: is asked.
        body: sent at once.
        headers: further ones.
        held: nothing is sent before `sends` is set.
        then: what is sent afterwards; None: the body never ends.
    """

    def __init__(
        self,
        app: FastAPI,
        body: bytes,
        *headers: tuple[bytes, bytes],
        held: bool = False,
        then: bytes | None = b"",
    ) -> None:
        self.left, self.sends = asyncio.Event(), asyncio.Event()
        if not held:
            self.sends.set()
        self.status: int | None = None
        self.headers: dict[bytes, bytes] = {}
        self.answer = b""
        self.n_received = 0
        parts = [body] if not then else [body, then]
        self._messages: Iterator[Message] = iter(
            {"type": "http.request", "body": part, "more_body": then is None or part is not parts[-1]}
            for part in parts
        )
        self._task = asyncio.create_task(app(self._scope(headers), self._receive, self._send))

    async def ended(self) -> None:
        """Until the app has finished with the request."""
        async with asyncio.timeout(WAIT_S):
            await self._task

    def cancel(self) -> None:
        """Cancel the app's work."""
        self._task.cancel()

    async def _receive(self) -> Message:
        await self.sends.wait()
        for message in self._messages:
            self.n_received += 1
            return message
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        self.status = message.get("status", self.status)
        self.headers |= dict(message.get("headers", []))
        self.answer += message.get("body", b"")

    def _scope(self, further: Iterable[tuple[bytes, bytes]]) -> dict[str, Any]:
        headers = [(b"content-type", b"multipart/form-data; boundary=b"), *further]
        path = "/v1/classify"
        return {
            "type": "http",
            "method": "POST",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "headers": headers,
            "http_version": "1.1",
            "scheme": "http",
            "server": ("test", 80),
        }


def test_one_request_too_many_is_told_to_come_back(
    toy_bundle: Path, clips: Clips, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One is worked on, none may wait: the second has 429 and Retry-After at once, the first its answer."""
    app = _app(toy_bundle, tmp_path, max_concurrency=1, max_waiting=0)
    with TestClient(app) as client, ThreadPoolExecutor(1) as other:
        held = _Held(Classifier, "classify", monkeypatch)
        first = other.submit(classify, client, clips["red low"], labels=["red"])
        assert held.entered.acquire(timeout=WAIT_S)
        refused = classify(client, clips["red low"], labels=["red"])
        held.go_on.set()
        assert first.result(WAIT_S).status_code == 200
        assert classify(client, clips["red low"], labels=["red"]).status_code == 200
    assert (refused.status_code, refused.json()["code"]) == (429, "overloaded")
    assert refused.headers["Retry-After"]


def test_an_upload_takes_a_place_before_it_has_arrived(toy_bundle: Path, body: bytes, tmp_path: Path) -> None:
    """The one too many is refused at once; the first has its answer when it is whole, and makes room."""

    async def ask() -> list[_Asgi]:
        uploading = _Asgi(app, body, held=True)
        await asyncio.sleep(0)
        refused = _Asgi(app, body)
        await refused.ended()
        assert uploading.status is None
        uploading.sends.set()
        await uploading.ended()
        later = _Asgi(app, body)
        await later.ended()
        return [uploading, refused, later]

    app = _app(toy_bundle, tmp_path, max_concurrency=1, max_waiting=0)
    with TestClient(app):
        requests = asyncio.run(ask())
    assert [request.status for request in requests] == [200, 429, 200]
    refused = requests[1]
    assert json.loads(refused.answer)["code"] == "overloaded"
    assert refused.headers[b"retry-after"]
    assert 'ahse_requests_total{method="POST",route="/v1/classify",status="429"} 1.0' in _metrics(app)
    assert 'ahse_request_seconds_count{route="/v1/classify"} 2.0' in _metrics(app)
    # The server reads the rest itself, so the connection can be used again.
    assert (refused.n_received, b"connection" in refused.headers) == (0, False)


def test_a_client_that_asks_before_it_sends_is_spared_the_upload(
    toy_bundle: Path, body: bytes, tmp_path: Path
) -> None:
    """`Expect: 100-continue`, as curl sends it with large files: nothing of the body is read."""

    async def ask() -> _Asgi:
        uploading = _Asgi(app, body, held=True)
        await asyncio.sleep(0)
        refused = _Asgi(app, body, (b"expect", b"100-continue"))
        await refused.ended()
        uploading.sends.set()
        await uploading.ended()
        return refused

    app = _app(toy_bundle, tmp_path, max_concurrency=1, max_waiting=0)
    with TestClient(app):
        refused = asyncio.run(ask())
    assert (refused.status, refused.n_received) == (429, 0)
    assert refused.headers[b"connection"] == b"close"


def test_an_upload_that_stands_still_loses_its_place(toy_bundle: Path, body: bytes, tmp_path: Path) -> None:
    """408 after the pause; what it had sent is deleted and another clip is let in."""

    async def ask() -> list[_Asgi]:
        stalled = _Asgi(app, body[:-50], then=None)
        await stalled.ended()
        assert stalled.n_received == 1
        later = _Asgi(app, body)
        await later.ended()
        return [stalled, later]

    uploads = tmp_path / "uploads"
    uploads.mkdir()
    app = _app(toy_bundle, tmp_path, max_concurrency=1, max_waiting=0, upload_pause_s=0.2, upload_dir=uploads)
    with TestClient(app):
        stalled, later = asyncio.run(ask())
    assert (stalled.status, json.loads(stalled.answer)["code"]) == (408, "upload_stalled")
    assert later.status == 200
    assert not list(uploads.iterdir())


def test_a_body_that_turns_out_too_large_is_refused_in_the_middle(
    toy_bundle: Path, body: bytes, tmp_path: Path
) -> None:
    """At the first part beyond the limit, whatever was promised."""

    async def ask() -> _Asgi:
        request = _Asgi(app, body, (b"transfer-encoding", b"chunked"), then=b"more")
        await request.ended()
        return request

    app = _app(toy_bundle, tmp_path, max_upload_bytes=100)
    with TestClient(app):
        request = asyncio.run(ask())
    assert (request.status, request.n_received) == (413, 1)
    assert b"connection" not in request.headers


@pytest.mark.parametrize(("n_workers", "own"), [(1, 4_000_000), (4, 1_000_000), (16, 500_000)])
def test_workers_share_the_room_for_uploads(
    n_workers: int, own: int, toy_bundle: Path, tmp_path: Path
) -> None:
    """They write to one disk; of many each has room for the largest upload all the same."""
    settings = Settings(
        bundles=(toy_bundle,),
        data_dir=tmp_path / "data",
        decode_workers=1,
        max_bytes_on_disk=4_000_000,
        max_upload_bytes=500_000,
    )
    app = create_app(settings, Worker(0, n_workers, tmp_path / "sockets", "a key"))
    with TestClient(app), app.state.context.uploads.share() as share:
        share.grow_to(own + SMALL_BYTES)
        with pytest.raises(OverloadedError):
            share.grow_to(own + SMALL_BYTES + 1)


async def _leave_while_held(app: FastAPI, body: bytes, held: _Held, n_requests: int) -> list[_Asgi]:
    """The first of some requests is held; all clients leave; then the work goes on and ends."""
    requests = [_Asgi(app, body) for _ in range(n_requests)]
    assert await asyncio.to_thread(held.entered.acquire, timeout=WAIT_S)
    while f"ahse_clips {n_requests}.0" not in _metrics(app):  # their uploads are still arriving
        await asyncio.sleep(0)
    for request in requests:
        request.left.set()
    await asyncio.sleep(0)  # the watchers run
    await asyncio.sleep(0)
    held.go_on.set()
    for request in requests:
        await request.ended()
    return requests


def _metrics(app: FastAPI) -> str:
    return str(app.state.context.metrics.text().decode())


def _dropped(app: FastAPI, waited_for: str) -> str:
    lines = _metrics(app).splitlines()
    wanted = f'ahse_dropped_requests_total{{waited_for="{waited_for}"}} '
    return next((line.removeprefix(wanted) for line in lines if line.startswith(wanted)), "0.0")


def test_work_of_clients_that_leave_is_dropped(
    toy_bundle: Path, body: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of three requests one was begun; none is decoded, and the service works for the next."""
    app = _app(toy_bundle, tmp_path, max_concurrency=1)
    with TestClient(app):
        held = _Held(Classifier, "classify", monkeypatch)
        requests = asyncio.run(_leave_while_held(app, body, held, 3))
        assert [request.status for request in requests] == [None] * 3
        assert (_dropped(app, "worker"), _dropped(app, "decode")) == ("2.0", "1.0")
        assert held.n_ended == 0


def test_a_request_that_is_cancelled_is_counted_as_a_client_that_left(
    toy_bundle: Path, body: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Ray Serve tells it: its work ends with it, and it is in the metrics as 499."""

    async def ask() -> None:
        request = _Asgi(app, body)
        assert await asyncio.to_thread(held.entered.acquire, timeout=WAIT_S)
        request.cancel()
        with pytest.raises(asyncio.CancelledError):
            await request.ended()
        held.go_on.set()

    app = _app(toy_bundle, tmp_path)
    with TestClient(app):
        held = _Held(Classifier, "classify", monkeypatch)
        asyncio.run(ask())
        assert 'route="/v1/classify",status="499"} 1.0' in _metrics(app)
    assert held.n_ended == 0


def test_a_clip_of_a_client_that_left_is_not_decoded(
    toy_bundle: Path, body: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It leaves on the way to the decoder, which then does not begin; nothing is encoded."""
    held = _Held(DecodePool, "decode", monkeypatch)
    held.go_on.set()  # for the health check
    app = _app(toy_bundle, tmp_path)
    with TestClient(app):
        wait_until_tried(app)
        assert held.entered.acquire(timeout=WAIT_S)
        held.go_on.clear()
        requests = asyncio.run(_leave_while_held(app, body, held, 1))
        assert [request.status for request in requests] == [None]
        assert _dropped(app, "decode") == "1.0"
        # Once, by the health check.
        assert 'ahse_batch_rows_count{encoder="visual"} 1.0' in app.state.context.metrics.text().decode()


def test_a_client_that_stays_has_its_answer(toy_bundle: Path, body: bytes, tmp_path: Path) -> None:
    """The same request, without leaving; the batches that it took are in the metrics."""

    async def ask() -> int | None:
        request = _Asgi(app, body)
        await request.ended()
        return request.status

    app = _app(toy_bundle, tmp_path, parallel_runs=1, batch_windows=16)
    with TestClient(app):
        wait_until_tried(app)
        assert asyncio.run(ask()) == 200
        text = app.state.context.metrics.text().decode()
    for encoder in ("visual", "audio", "text_visual", "text_audio"):
        assert f'ahse_rows_waiting{{encoder="{encoder}"}} 0.0' in text
        # One more by the health check.
        assert f'ahse_batch_rows_count{{encoder="{encoder}"}} 2.0' in text


def test_a_request_that_the_end_of_the_service_cuts_off_is_told_to_come_back(
    toy_bundle: Path, body: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server cancels what a shutdown can't wait for; of itself it would answer 500 in its own words."""

    async def ask() -> _Asgi:
        request = _Asgi(app, body)
        assert await asyncio.to_thread(held.entered.acquire, timeout=WAIT_S)
        app.state.context.jobs.end_streams()
        request.cancel()
        await request.ended()
        held.go_on.set()
        return request

    app = _app(toy_bundle, tmp_path)
    with TestClient(app):
        held = _Held(Classifier, "classify", monkeypatch)
        request = asyncio.run(ask())
    assert (request.status, json.loads(request.answer)["code"]) == (503, "not_ready")
    assert request.headers[b"retry-after"] == b"5"
