"""Jobs of `ahse serve` as a process of its own: killed in the middle, and stopped in order."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.toy import CLASSES

N_CLIPS = 40


@contextmanager
def _serving(bundle: Path, data: Path) -> Iterator[tuple[subprocess.Popen[str], httpx2.Client]]:
    """A server on a free port; killed at the end, if it is still there."""
    words = [sys.executable, "-m", "service.cli", "serve", "--bundle", str(bundle), "--port", "0"]
    with subprocess.Popen(  # noqa: S603  (our own interpreter and code)
        [*words, "--data-dir", str(data)],
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"NO_COLOR": "1", "AHSE_DECODE_WORKERS": "1"},
    ) as process:
        assert process.stderr is not None
        found = (re.search(r"http://[\d.]+:\d+", line) for line in process.stderr)
        address = next(one for one in found if one)
        log = threading.Thread(target=process.stderr.read)
        log.start()
        try:
            with httpx2.Client(base_url=address.group(), timeout=60) as client:
                yield process, client
        finally:
            process.kill()
            process.wait(60)
            log.join(60)


def _post(client: httpx2.Client, clip: Path) -> dict[str, Any]:
    content = clip.read_bytes()
    parts = [("files", (f"{index}.mp4", content)) for index in range(N_CLIPS)]
    response = client.post("/v1/jobs", files=parts, data={"labels": CLASSES, "top_k": "1"})
    assert response.status_code == 202
    job: dict[str, Any] = response.json()
    return job


def _kinds(lines: Iterator[str]) -> Iterator[str]:
    return (line.removeprefix("event: ") for line in lines if line.startswith("event: "))


def _results(client: httpx2.Client, job: dict[str, Any]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in client.get(job["links"]["results"]).text.splitlines()]


@pytest.mark.slow
def test_a_job_of_a_killed_service_is_taken_up_and_finished(
    toy_bundle: Path, tmp_path: Path, clips: dict[str, Path]
) -> None:
    """Killed twice in the middle: no result is lost, and none is there twice or made again."""
    before: list[dict[str, Any]] = []
    job: dict[str, Any] = {}
    for n_before_kill in (3, 2):
        with _serving(toy_bundle, tmp_path) as (process, client):
            job = job or _post(client, clips["red low"])
            with client.stream("GET", job["links"]["events"], headers={"Last-Event-ID": "0"}) as stream:
                kinds = _kinds(stream.iter_lines())
                for _ in range(len(before) + n_before_kill):
                    while next(kinds) != "clip":
                        pass
                before = _results(client, job)
                process.send_signal(signal.SIGKILL)
                process.wait(60)
    assert 5 <= len(before) < N_CLIPS
    with _serving(toy_bundle, tmp_path) as (_, client):
        text = client.get(job["links"]["events"], headers={"Last-Event-ID": "0"}).text
        done = client.get(job["links"]["self"]).json()
        results = _results(client, job)
    assert (done["state"], done["n_done"], done["n_failed"]) == ("done", N_CLIPS, 0)
    assert [line["index"] for line in results] == list(range(N_CLIPS))
    # With the very timings of the first time.
    assert results[: len(before)] == before
    assert list(_kinds(iter(text.splitlines()))).count("clip") == N_CLIPS
    assert [path.name for path in (tmp_path / "jobs").glob("job_*")] == []


def test_a_service_that_is_stopped_does_not_wait_for_its_jobs(
    toy_bundle: Path, tmp_path: Path, clips: dict[str, Path]
) -> None:
    """An open stream of events ends, and the process does soon after."""
    with _serving(toy_bundle, tmp_path) as (process, client):
        job = _post(client, clips["red low"])
        with client.stream("GET", job["links"]["events"]) as stream:
            kinds = _kinds(stream.iter_lines())
            assert next(kinds) == "job"
            process.send_signal(signal.SIGTERM)
            assert "end" not in list(kinds)
        # uvicorn would wait for a stream for 30 s.
        assert process.wait(20) in (0, -signal.SIGTERM)
