"""Work on jobs: behind requests, within limits, ended at once, and taken up again."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient
from structlog.testing import capture_logs

from service.api.intake.fetch import Fetcher, FetchLimits
from service.decode import wire
from service.decode.pool import DecodePool
from service.errors import DecoderUnavailableError, StoreUnavailableError
from service.jobs.job import MAX_ATTEMPTS
from service.jobs.sqlite.store import SqliteJobStore
from service.settings import Settings
from tests.service.api.conftest import classify
from tests.service.api.guard.guarded import Make, asked
from tests.service.api.intake.clip_server import ClipServer, loopback_network, ok
from tests.service.api.jobs_client import (
    WAIT_S,
    HeldJobs,
    app_of,
    decoder_of_jobs,
    decoder_of_requests,
    ended,
    events_of,
    files_of,
    halted,
    post_job,
    results_of,
    stopped_decoder,
    tick,
    wait_for_watchers,
    wait_until,
)

Clips = dict[str, Path]


@pytest.fixture
def running(make: Make) -> Iterator[TestClient]:
    """A service of its own."""
    with asked(make()) as client:
        yield client


def test_cancelling_ends_a_running_decode(make: Make, clips: Clips, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its process is killed at once; the record stays until it is deleted, and other jobs go on."""
    with asked(make()) as client, stopped_decoder(client, clips["red low"]):
        sent, send_request = threading.Event(), wire.send_request

        def noticed(*args: Any) -> None:
            send_request(*args)
            sent.set()

        monkeypatch.setattr(wire, "send_request", noticed)
        job = post_job(client, clips["red low"], clips["red low"]).json()
        assert sent.wait(WAIT_S)
        killed, app = decoder_of_jobs(client), app_of(client)
        cancelled = client.post(f"{job['links']['self']}/cancel")
        assert (cancelled.status_code, cancelled.json()["state"]) == (200, "cancelled")
        wait_until(client, lambda: not app.state.context.jobs.running)
        assert ended(client, post_job(client, clips["red low"]).json())["state"] == "done"
        assert decoder_of_jobs(client) != killed
        assert [one["state"] for one in ended(client, job)["clips"]] == ["cancelled"] * 2
        assert (results_of(client, job), files_of(client)) == ([], [])
        again = client.post(f"{job['links']['self']}/cancel")
        assert (again.status_code, again.json()["ended"]) == (200, cancelled.json()["ended"])


def test_deleting_ends_the_work_too(make: Make, clips: Clips) -> None:
    """At any time; then there is no such job, and its stream of events ends."""
    with asked(make()) as client, ThreadPoolExecutor(1) as other:
        with stopped_decoder(client, clips["red low"]):
            job = post_job(client, clips["red low"]).json()
            stream = other.submit(client.get, job["links"]["events"])
            wait_for_watchers(client)
            assert client.delete(job["links"]["self"]).status_code == 204
            assert "end" not in [kind for kind, _, _ in events_of(stream.result(WAIT_S).text)]
            running = app_of(client).state.context.jobs.running
            wait_until(client, lambda: not running)
        assert files_of(client) == []
        for path in ("", "/results", "/events"):
            assert client.get(f"{job['links']['self']}{path}").status_code == 404
        assert client.post(f"{job['links']['self']}/cancel").status_code == 404
        assert client.delete(job["links"]["self"]).status_code == 404


@pytest.mark.parametrize("patience_s", [WAIT_S, 0.0])
def test_a_job_gives_way_to_requests_for_a_while(
    make: Make, clips: Clips, monkeypatch: pytest.MonkeyPatch, patience_s: float
) -> None:
    """It is not begun while as many clips of requests are worked on as can be decoded, unless that lasts."""
    monkeypatch.setattr("service.api.jobs.runner.PATIENCE_S", patience_s)
    with asked(make(max_concurrency=2)) as client, ThreadPoolExecutor(1) as other:
        with halted(decoder_of_requests(client)):
            request = other.submit(classify, client, clips["red low"], labels=["red"])
            workers = app_of(client).state.context.clip_workers
            wait_until(client, lambda: workers.n_taken)
            job = post_job(client, clips["red low"]).json()
            if patience_s:
                for _ in range(3):
                    tick(client)
                assert client.get(job["links"]["self"]).json()["state"] == "queued"
            else:
                assert ended(client, job)["state"] == "done"
                assert not request.done()
        assert request.result(WAIT_S).status_code == 200
        assert ended(client, job)["state"] == "done"


def test_decoders_of_jobs_stand_behind_those_of_requests(running: TestClient, clips: Clips) -> None:
    """For processor time, where both have work."""
    ended(running, post_job(running, clips["red low"]).json())
    pids = (decoder_of_requests(running), decoder_of_jobs(running))
    of_requests, of_jobs = (os.getpriority(os.PRIO_PROCESS, pid) for pid in pids)
    assert of_jobs == min(19, of_requests + 10)


def test_requests_are_not_refused_because_of_jobs(
    make: Make, clips: Clips, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even where there is a place for a single one: jobs have threads, places and decoders of their own."""
    held = HeldJobs(monkeypatch)
    with asked(make(max_concurrency=1, max_waiting=0)) as client:
        jobs = [post_job(client, clips["red low"]).json() for _ in range(3)]
        assert held.entered.acquire(timeout=WAIT_S)
        assert classify(client, clips["red low"], labels=["red"]).status_code == 200
        held.go_on.set()
        assert {ended(client, job)["state"] for job in jobs} == {"done"}


def test_a_clip_under_way_is_queued_again_at_a_shutdown(make: Make, clips: Clips, tmp_path: Path) -> None:
    """The shutdown does not wait for it, and it does not count as an attempt; the next start finishes it."""
    with asked(make()) as client, stopped_decoder(client, clips["red low"]):
        job = post_job(client, clips["red low"]).json()
        app = app_of(client)
        wait_until(client, lambda: dict(app.state.context.jobs.running))
    store = SqliteJobStore(tmp_path / "data", Settings().job_limits())
    assert store.clips(job["id"])[0].state == "queued"
    claim = store.claim(app.state.context.jobs.clock())
    assert claim is not None
    assert claim.attempt == 1
    store.release(claim, is_tried=False)
    store.close()
    with asked(make()) as client:
        assert ended(client, job)["state"] == "done"


def test_a_clip_that_ends_the_service_is_given_up(make: Make, clips: Clips, tmp_path: Path) -> None:
    """After three attempts it has a problem that says so; the other clips of the job are answered."""
    app = make()
    clock = app.state.context.jobs.clock
    with asked(app) as client, stopped_decoder(client, clips["red low"]):
        job = post_job(client, clips["red low"], clips["red low"]).json()
    for _ in range(MAX_ATTEMPTS):
        store = SqliteJobStore(tmp_path / "data", Settings().job_limits())
        assert store.lead()
        claim = store.claim(clock())
        assert claim is not None
        assert claim.index == 0
        store.close()  # without an outcome, as if killed
    with asked(make()) as client:
        assert ended(client, job)["state"] == "done"
        given_up, answered = results_of(client, job)
    assert (given_up["code"], given_up["status"]) == ("job_interrupted", 503)
    assert "begun 3 times" in given_up["detail"]
    assert answered["predictions"]


def test_a_part_that_fails_for_a_while_costs_no_clip(
    make: Make, clips: Clips, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is begun again, and answered; where the part fails each time, its error is the result."""
    decode, n_failures = DecodePool.decode, 1

    def failing(*args: Any) -> Any:
        nonlocal n_failures
        if threading.current_thread().name.startswith("job") and n_failures > 0:
            n_failures -= 1
            raise DecoderUnavailableError("No clip can be decoded now; try again later.")
        return decode(*args)

    monkeypatch.setattr(DecodePool, "decode", failing)
    monkeypatch.setattr("service.api.jobs.runner.TICK_S", 0.01)
    with asked(make()) as client:
        assert ended(client, post_job(client, clips["red low"]).json())["state"] == "done"
        n_failures = MAX_ATTEMPTS
        job = ended(client, post_job(client, clips["red low"]).json())
        assert job["state"] == "failed"
        assert [line["code"] for line in results_of(client, job)] == ["decoder_unavailable"]


def test_a_clip_that_cannot_be_queued_again_at_once_is_later(
    make: Make, clips: Clips, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Full disks, for example, fail the clip first and the store then."""
    decode, release, failures = DecodePool.decode, SqliteJobStore.release, ["decode", "store"]

    def failing_decode(*args: Any) -> Any:
        if threading.current_thread().name.startswith("job") and "decode" in failures:
            failures.remove("decode")
            raise DecoderUnavailableError("No clip can be decoded now; try again later.")
        return decode(*args)

    def failing_release(*args: Any, **options: Any) -> None:
        if "store" in failures:
            failures.remove("store")
            raise StoreUnavailableError("the store can't answer now")
        release(*args, **options)

    monkeypatch.setattr(DecodePool, "decode", failing_decode)
    monkeypatch.setattr(SqliteJobStore, "release", failing_release)
    monkeypatch.setattr("service.api.jobs.runner.TICK_S", 0.01)
    with asked(make()) as client:
        assert ended(client, post_job(client, clips["red low"]).json())["state"] == "done"
    assert failures == []


@pytest.mark.parametrize("step", ["expire", "claim", "claim_webhooks"])
def test_what_nobody_has_foreseen_does_not_end_the_work_on_jobs(
    make: Make, clips: Clips, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """It is logged once, and the step is done again until it succeeds."""
    right, calls = getattr(SqliteJobStore, step), list[str]()

    def failing(*args: Any) -> Any:
        calls.append(step)
        if len(calls) < 4:
            raise FileNotFoundError(step)
        return right(*args)

    monkeypatch.setattr(SqliteJobStore, step, failing)
    monkeypatch.setattr("service.api.jobs.runner.TICK_S", 0.01)
    with capture_logs() as logs, asked(make(webhooks=True)) as client:
        assert ended(client, post_job(client, clips["red low"]).json())["state"] == "done"
        wait_until(client, lambda: "jobs_available_again" in [log["event"] for log in logs])
    assert [log["event"] for log in logs if log["event"].startswith("jobs_")] == [
        "jobs_unavailable",
        "jobs_available_again",
    ]


def test_jobs_may_have_longer_clips_than_requests(make: Make, clips: Clips) -> None:
    """Their length is a setting of its own, and segments are allowed in the same measure."""
    short = {"max_duration_s": 0.5, "max_segments": 1}
    with asked(make(**short, job_max_duration_s=2)) as client:
        refused = classify(client, clips["red low"], labels=["red"])
        assert refused.json()["code"] == "clip_too_long"
        job = ended(client, post_job(client, clips["red low"], segment_s="1").json())
        assert job["state"] == "done"
    with asked(make(**short, job_max_duration_s=0.6)) as client:
        job = ended(client, post_job(client, clips["red low"]).json())
        assert [line["code"] for line in results_of(client, job)] == ["clip_too_long"]


def test_work_on_a_clip_has_a_deadline(running: TestClient, clips: Clips) -> None:
    """A decoder that hangs costs one clip."""
    runner = app_of(running).state.job_runner
    patient = runner._context
    with stopped_decoder(running, clips["red low"]):
        hasty = patient.settings.model_copy(update={"request_timeout_s": 0.2})
        runner._context = replace(patient, settings=hasty)
        job = ended(running, post_job(running, clips["red low"]).json())
    assert [line["code"] for line in results_of(running, job)] == ["request_timeout"]
    runner._context = patient
    assert ended(running, post_job(running, clips["red low"]).json())["state"] == "done"


def test_a_clip_at_a_url_is_fetched_when_its_turn_comes(make: Make, clips: Clips) -> None:
    """By the rules of requests, where it is allowed at all."""
    with ClipServer({"/clip": ok(clips["red low"].read_bytes())}) as server:
        app: FastAPI = make(url_input=True)
        runner = app.state.job_runner
        fetcher = Fetcher(FetchLimits(10**6, WAIT_S, WAIT_S), loopback_network())
        runner._context = replace(runner._context, fetcher=fetcher)
        with asked(app) as client:
            form = {"labels": "red", "url": server.url("/clip")}
            job = ended(client, client.post("/v1/jobs", files={"labels": (None, "blue")}, data=form).json())
            assert job["state"] == "done"
            assert files_of(client) == []
            form["url"] = "ftp://clips.example/clip"
            told = client.post("/v1/jobs", files={"labels": (None, "blue")}, data=form)
            assert (told.status_code, told.json()["code"]) == (422, "url_refused")
    with asked(make()) as client:
        refused = client.post("/v1/jobs", files={"labels": (None, "blue")}, data={"url": "http://a.example/"})
    assert (refused.status_code, refused.json()["code"]) == (422, "url_refused")


def test_metrics_count_jobs_and_their_clips(running: TestClient, clips: Clips) -> None:
    """For alarms on jobs that pile up."""
    ended(running, post_job(running, clips["red low"], b"nonsense").json())
    tick(running)
    text = running.get("/metrics").text
    assert 'ahse_job_clips_total{outcome="answer"} 1.0' in text
    assert 'ahse_job_clips_total{outcome="problem"} 1.0' in text
    assert "ahse_jobs 0.0" in text
