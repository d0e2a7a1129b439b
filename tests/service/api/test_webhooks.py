"""The end of a job reported to its client: signed, again after failures, and never into private networks."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import shutil
import subprocess
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

import pytest
from starlette.testclient import TestClient
from structlog.testing import capture_logs

from service.api.jobs.webhooks import Sent, WebhookSender, signed_headers
from service.errors import StoreUnavailableError
from service.jobs.job import Delivery
from tests.service.api.guard.guarded import Make, asked
from tests.service.api.intake.clip_server import Names, loopback_network
from tests.service.api.jobs_client import (
    WAIT_S,
    Clock,
    app_of,
    call,
    clocked,
    ended,
    post_job,
    tick,
    wait_until,
)

Clips = dict[str, Path]
KEY = bytes(range(32))
SECRET = f"whsec_{base64.b64encode(KEY).decode()}"


class Receiver:
    """A web server on loopback that keeps what it is sent, and answers with some statuses."""

    def __init__(self, *statuses: int) -> None:
        self.got: list[tuple[dict[str, str], bytes]] = []
        self.arrived = threading.Semaphore(0)
        receiver, left = self, list(statuses)

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.got.append(({k.lower(): v for k, v in self.headers.items()}, body))
                self.send_response(left.pop(0) if len(left) > 1 else left[0])
                self.send_header("Location", "/elsewhere")
                self.send_header("Content-Length", "0")
                self.end_headers()
                receiver.arrived.release()

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever)
        self.url = f"http://hooks.example:{self._server.server_port}/ahse?x=1"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(WAIT_S)


def _sender() -> WebhookSender:
    """Reaches loopback by the name hooks.example, and nothing else."""
    return WebhookSender(loopback_network(Names({"hooks.example": [["127.0.0.1"]]})))


@pytest.fixture
def clock() -> Clock:
    """The time of jobs."""
    return Clock()


@pytest.fixture
def client(make: Make, clock: Clock) -> Iterator[TestClient]:
    """A service that reports to loopback."""
    app = make(webhooks=True, job_expiry_s=7 * 86_400)
    app.state.context.jobs.sender = _sender()
    with clocked(app, clock) as client:
        yield client


def _state(client: TestClient, job: Any) -> str:
    """Of the webhook, once it is no longer only due."""
    return str(client.get(job["links"]["self"]).json()["webhook"])


def _wait_for(client: TestClient, job: Any, state: str) -> None:
    app: Any = client.app
    wait_until(client, lambda: app.state.context.jobs.store.get(job["id"]).webhook == state)


def test_a_signature_is_that_of_the_specification() -> None:
    """The example that libraries of Standard Webhooks are tested with."""
    headers = signed_headers(
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        datetime.fromtimestamp(1614265330, UTC),
        b'{"test": 2432232314}',
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    )
    assert headers == {
        "Webhook-Id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "Webhook-Timestamp": "1614265330",
        "Webhook-Signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


def _by_openssl(signed: bytes) -> str:
    openssl = shutil.which("openssl")
    if openssl is None:
        return base64.b64encode(hmac.digest(KEY, signed, hashlib.sha256)).decode()
    words = [openssl, "dgst", "-sha256", "-mac", "HMAC", "-macopt", f"hexkey:{KEY.hex()}", "-binary"]
    done = subprocess.run(words, input=signed, check=True, capture_output=True)  # noqa: S603  (fixed words)
    return base64.b64encode(done.stdout).decode()


def test_the_end_of_a_job_is_reported_signed(client: TestClient, clips: Clips, clock: Clock) -> None:
    """With the job but without its results; the signature is checked by OpenSSL."""
    with Receiver(204) as receiver:
        sent = post_job(client, clips["red low"], webhook=receiver.url, webhook_secret=SECRET)
        job = sent.json()
        assert (sent.status_code, job["webhook"]) == (202, "waiting")
        assert SECRET not in sent.text
        assert receiver.arrived.acquire(timeout=WAIT_S)
        _wait_for(client, job, "delivered")
    ((headers, body),) = receiver.got
    report = json.loads(body)
    assert (report["type"], report["timestamp"]) == ("job.done", clock.now.isoformat())
    assert (report["data"]["id"], report["data"]["links"]) == (job["id"], job["links"])
    assert headers["content-type"] == "application/json"
    assert headers["webhook-id"] == f"msg_{job['id']}"
    assert headers["webhook-timestamp"] == str(int(clock.now.timestamp()))
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    assert headers["webhook-signature"] == f"v1,{_by_openssl(signed)}"


def test_a_cancelled_job_is_reported_too(client: TestClient, clips: Clips) -> None:
    """Whoever waits for its end has to know."""
    with Receiver(200) as receiver:
        many = [clips["red low"]] * 20
        job = post_job(client, *many, webhook=receiver.url, webhook_secret=SECRET).json()
        assert client.post(f"{job['links']['self']}/cancel").json()["state"] == "cancelled"
        tick(client)
        assert receiver.arrived.acquire(timeout=WAIT_S)
    assert json.loads(receiver.got[0][1])["type"] == "job.cancelled"


def test_a_report_that_failed_is_sent_again_later(client: TestClient, clips: Clips, clock: Clock) -> None:
    """After pauses that grow, each time with the same id and a new signature; a redirect is a failure."""
    with Receiver(500, 307, 200) as receiver:
        job = post_job(client, clips["red low"], webhook=receiver.url, webhook_secret=SECRET).json()
        assert receiver.arrived.acquire(timeout=WAIT_S)
        for seconds in (5, 60):
            tick(client)
            assert not receiver.arrived.acquire(blocking=False)
            clock.forward(seconds=seconds)
            tick(client)
            assert receiver.arrived.acquire(timeout=WAIT_S)
        _wait_for(client, job, "delivered")
    ids, times, signatures = (
        {headers[f"webhook-{name}"] for headers, _ in receiver.got}
        for name in ("id", "timestamp", "signature")
    )
    assert (len(ids), len(times), len(signatures)) == (1, 3, 3)


def test_a_receiver_that_is_gone_is_not_asked_again(client: TestClient, clips: Clips) -> None:
    """410 ends it, as the specification says."""
    with Receiver(410) as receiver:
        job = post_job(client, clips["red low"], webhook=receiver.url, webhook_secret=SECRET).json()
        _wait_for(client, job, "failed")
    assert len(receiver.got) == 1


def test_reports_are_given_up_after_some_hours(client: TestClient, clips: Clips, clock: Clock) -> None:
    """The job says so; its results are there all the same."""
    with Receiver(503) as receiver:
        job = post_job(client, clips["red low"], webhook=receiver.url, webhook_secret=SECRET).json()
        for _ in range(6):
            assert receiver.arrived.acquire(timeout=WAIT_S)
            clock.forward(hours=6)
            tick(client)
        _wait_for(client, job, "failed")
    assert len(receiver.got) == 6


@pytest.mark.parametrize("since", ["before it is sent", "while it is sent"])
def test_a_report_is_not_repeated_while_the_store_cannot_be_written(
    client: TestClient, clips: Clips, clock: Clock, monkeypatch: pytest.MonkeyPatch, since: str
) -> None:
    """A full disk, say, or a database that only answers questions: it goes on where there is room again."""
    monkeypatch.setattr("service.api.jobs.runner.TICK_S", 0.01)
    app, send, failed = app_of(client), WebhookSender.send, list[str]()

    def full() -> None:
        failed.append("write")
        raise StoreUnavailableError("the store can't answer now")

    with Receiver(500, 200) as receiver, monkeypatch.context() as broken:
        job = post_job(client, clips["red low"], webhook=receiver.url, webhook_secret=SECRET).json()
        assert receiver.arrived.acquire(timeout=WAIT_S)
        database = app.state.context.jobs.store._database

        async def breaking(*args: Any) -> Sent:
            broken.setattr(database, "writing", full)
            return await send(*args)

        if since == "while it is sent":
            broken.setattr(WebhookSender, "send", breaking)
        else:
            broken.setattr(database, "writing", full)
        clock.forward(seconds=5)
        call(client, app.state.job_runner._ended.set)
        wait_until(client, lambda: len(failed) >= 50)
        assert len(receiver.got) == (2 if since == "while it is sent" else 1)
        broken.undo()
        _wait_for(client, job, "delivered")
    assert len(receiver.got) == 2


def test_a_report_that_cannot_be_sent_holds_up_no_other(
    client: TestClient, clips: Clips, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is wrong with this side: it is logged, and tried again after the pause of a failure."""
    monkeypatch.setattr("service.api.jobs.runner.TICK_S", 0.01)
    send, failed = WebhookSender.send, list[str]()

    async def failing(sender: WebhookSender, due: Delivery, now: datetime) -> Sent:
        if "broken" in due.webhook.url:
            failed.append(due.job.id)
            raise OSError(24, "Too many open files")
        return await send(sender, due, now)

    monkeypatch.setattr(WebhookSender, "send", failing)
    with capture_logs() as logs, Receiver(200) as receiver:
        urls = (f"{receiver.url}&broken", receiver.url)
        broken, other = (
            post_job(client, clips["red low"], webhook=url, webhook_secret=SECRET).json() for url in urls
        )
        _wait_for(client, other, "delivered")
        tick(client)
        assert failed == [broken["id"]]
        assert _state(client, broken) == "pending"
        clock.forward(seconds=5)
        tick(client)
        wait_until(client, lambda: len(failed) == 2)
    assert {log["step"] for log in logs if log["event"] == "jobs_unavailable"} == {"deliver"}


def test_a_receiver_that_hangs_holds_up_no_other(
    client: TestClient, clips: Clips, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There are places for several reports, and each is free as soon as its own report has ended."""
    entered, never = threading.Event(), asyncio.Event()
    send = WebhookSender.send

    async def hanging(sender: WebhookSender, due: Delivery, now: datetime) -> Sent:
        if "hanging" in due.webhook.url:
            entered.set()
            await never.wait()
        return await send(sender, due, now)

    monkeypatch.setattr(WebhookSender, "send", hanging)
    with Receiver(200) as receiver:
        urls = (f"{receiver.url}&hanging", *[receiver.url] * 2)
        slow, *others = (
            post_job(client, clips["red low"], webhook=url, webhook_secret=SECRET).json() for url in urls
        )
        assert entered.wait(WAIT_S)
        for other in others:
            _wait_for(client, other, "delivered")
        assert _state(client, slow) == "pending"


def test_a_report_survives_a_restart(make: Make, clips: Clips, clock: Clock) -> None:
    """The next process sends what the one before could not."""
    with Receiver(500, 200) as receiver:
        app = make(webhooks=True)
        app.state.context.jobs.sender = _sender()
        with clocked(app, clock) as client:
            job = post_job(client, clips["red low"], webhook=receiver.url, webhook_secret=SECRET).json()
            assert receiver.arrived.acquire(timeout=WAIT_S)
        clock.forward(seconds=5)
        app = make(webhooks=True)
        app.state.context.jobs.sender = _sender()
        with clocked(app, clock) as client:
            assert receiver.arrived.acquire(timeout=WAIT_S)
            _wait_for(client, job, "delivered")


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://127.0.0.1:9000/", "public internet"),
        ("http://169.254.169.254/latest/meta-data", "public internet"),
        ("http://10.1.2.3/", "public internet"),
        ("https://[::1]/", "public internet"),
        ("https://[fd00::1]/", "public internet"),
        ("http://localhost:8000/", "public internet"),
        ("ftp://hooks.example/", "http:// or https://"),
        ("https://user:password@hooks.example/", "user name or password"),
        ("https://hooks.example:22/", "ports 80, 443"),
        ("https://hooks.example:0/", "ports 80, 443"),
        ("https://[::1/", "not well-formed"),
        ("https://hooks.example/" + "x" * 2000, "2000 characters"),
    ],
)
def test_private_addresses_are_refused(make: Make, clips: Clips, url: str, why: str) -> None:
    """When the job is sent, by the same rules as clips from URLs."""
    app = make(webhooks=True)
    with asked(app) as client:
        refused = post_job(client, clips["red low"], webhook=url, webhook_secret=SECRET)
        assert (refused.status_code, refused.json()["code"]) == (422, "url_refused")
        assert why in refused.json()["detail"]
        assert client.get("/v1/jobs").json()["jobs"] == []


def test_a_name_that_becomes_private_is_not_connected_to(make: Make, clips: Clips, clock: Clock) -> None:
    """The address is checked again in the step that connects (DNS rebinding)."""
    names = Names({"hooks.example": [["127.0.0.1"], ["10.0.0.1"]]})
    app = make(webhooks=True)
    app.state.context.jobs.sender = WebhookSender(loopback_network(names))
    with capture_logs() as logs, Receiver(200) as receiver, clocked(app, clock) as client:
        job = post_job(client, clips["red low"], webhook=receiver.url, webhook_secret=SECRET).json()
        ended(client, job)
        wait_until(client, lambda: "webhook" in [log["event"] for log in logs])
        assert receiver.got == []
        assert _state(client, job) == "pending"
    assert names.asked == ["hooks.example"] * 2


@pytest.mark.parametrize(
    "secret", ["", "secret", "whsec_", "whsec_c2hvcnQ=", f"whsec_{'A' * 200}", "whsec_!!!!"]
)
def test_weak_secrets_are_refused(client: TestClient, clips: Clips, secret: str) -> None:
    """24 to 64 bytes, as the specification recommends."""
    refused = post_job(client, clips["red low"], webhook="http://hooks.example/", webhook_secret=secret)
    assert (refused.status_code, refused.json()["code"]) == (422, "invalid_option")
    assert "openssl rand" in refused.json()["detail"]


def test_webhooks_are_off_by_default(make: Make, clips: Clips) -> None:
    """The message names the setting."""
    with asked(make()) as client:
        refused = post_job(client, clips["red low"], webhook="https://hooks.example/", webhook_secret=SECRET)
    assert (refused.status_code, refused.json()["code"]) == (422, "url_refused")
    assert "AHSE_WEBHOOKS=1" in refused.json()["detail"]
