"""Services with jobs, and requests to them."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from service.decode.pool import DecodePool
from tests.service.api.guard.guarded import asked

WAIT_S = 60.0


def post_job(
    client: TestClient, *clips: Path | bytes, headers: dict[str, str] | None = None, **fields: Any
) -> Any:
    """POST /v1/jobs with clips in parts `files`, named by their number."""
    parts = [
        ("files", (f"{index}.mp4", clip if isinstance(clip, bytes) else clip.read_bytes()))
        for index, clip in enumerate(clips)
    ]
    return client.post("/v1/jobs", files=parts, data={"labels": ["red", "blue"], **fields}, headers=headers)


def events_of(text: str) -> list[tuple[str, int, dict[str, Any]]]:
    """Kind, id and data of the events of a stream, read as browsers do."""
    found = []
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if fields:
            found.append((fields["event"], int(fields["id"]), json.loads(fields["data"])))
    return found


def ended(client: TestClient, job: Any, **options: Any) -> dict[str, Any]:
    """The job once it has ended: its stream of events lasts until then."""
    client.get(f"/v1/jobs/{job['id']}/events", **options)
    found: dict[str, Any] = client.get(f"/v1/jobs/{job['id']}", **options).json()
    return found


def results_of(client: TestClient, job: Any, **options: Any) -> list[dict[str, Any]]:
    """The lines of the results."""
    response = client.get(f"/v1/jobs/{job['id']}/results", **options)
    assert response.status_code == 200, response.text
    return [json.loads(line) for line in response.text.splitlines()]


def call(client: TestClient, function: Callable[..., Any], *args: Any) -> Any:
    """Run a function on the event loop of the service."""
    assert client.portal is not None
    return client.portal.call(function, *args)


def wait_until(client: TestClient, happened: Callable[[], Any]) -> None:
    """Let the event loop run until something has happened there."""
    end = time.monotonic() + WAIT_S
    while not call(client, happened):
        assert time.monotonic() < end


def tick(client: TestClient) -> None:
    """What happens every second, now."""
    app: Any = client.app
    call(client, app.state.job_runner.tick)


class Clock:
    """A time that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = datetime(2026, 11, 26, 12, tzinfo=UTC)

    def __call__(self) -> datetime:
        """The time."""
        return self.now

    def forward(self, **by: float) -> None:
        """Move it."""
        self.now += timedelta(**by)


@contextmanager
def clocked(app: FastAPI, clock: Clock) -> Iterator[TestClient]:
    """Ask a service whose jobs go by a clock of the test."""
    app.state.context.jobs.clock = clock
    with asked(app) as client:
        yield client


@contextmanager
def stopped_decoder(client: TestClient, clip: Path) -> Iterator[None]:
    """Inside the block the decoding process of jobs is there, but does nothing."""
    ended(client, post_job(client, clip).json())  # starts it
    with halted(decoder_of_jobs(client)):
        yield


@contextmanager
def halted(pid: int) -> Iterator[None]:
    """Inside the block a process does nothing."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def decoder_of(pool: Any) -> int:
    """The only process of a pool."""
    (worker,) = pool._workers
    return int(worker._process.pid)


def decoder_of_requests(client: TestClient) -> int:
    """The process that decodes clips of requests."""
    app: Any = client.app
    return decoder_of(app.state.context.classifier._decode.__self__)


def decoder_of_jobs(client: TestClient) -> int:
    """The process that decodes clips of jobs."""
    app: Any = client.app
    return decoder_of(app.state.job_runner._decoder)


class HeldJobs:
    """Decodes of jobs say when they are entered, and go on when they are let; others are not held."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.entered, self.go_on = threading.Semaphore(0), threading.Event()
        decode = DecodePool.decode

        def waiting(*args: Any) -> Any:
            if threading.current_thread().name.startswith("job"):
                self.entered.release()
                assert self.go_on.wait(WAIT_S)
            return decode(*args)

        monkeypatch.setattr(DecodePool, "decode", waiting)


def wait_for_watchers(client: TestClient) -> None:
    """Until somebody reads the events of a job."""
    jobs = app_of(client).state.context.jobs
    wait_until(client, lambda: len(jobs._watchers))


def app_of(client: TestClient) -> Any:
    """The app that a client asks."""
    return client.app


def files_of(client: TestClient) -> list[str]:
    """What is in the folder of jobs, apart from locks."""
    folder = app_of(client).state.context.jobs.store.folder.path
    return [path.name for path in folder.rglob("*") if path.is_file() and path.name != "lock"]
