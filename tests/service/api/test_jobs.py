"""/v1/jobs as a client sees it."""

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

from service.api.guard.byte_budget import ByteBudget
from service.api.intake.fetch import Fetcher, FetchLimits
from service.api.jobs import board, events
from service.decode import wire
from service.decode.pool import DecodePool
from service.errors import DecoderUnavailableError
from service.jobs.job import MAX_ATTEMPTS
from service.jobs.sqlite import SqliteJobStore
from service.settings import Settings
from tests.service.api.conftest import classify
from tests.service.api.guard.guarded import Make, asked, new_key
from tests.service.api.intake.clip_server import ClipServer, loopback_network, ok
from tests.service.api.jobs_client import (
    WAIT_S,
    Clock,
    call,
    clocked,
    decoder_of_jobs,
    decoder_of_requests,
    ended,
    events_of,
    halted,
    post_job,
    results_of,
    stopped_decoder,
    tick,
    wait_until,
)
from tests.toy import CLASSES

Clips = dict[str, Path]


@pytest.fixture
def running(make: Make) -> Iterator[TestClient]:
    """A service of its own."""
    with asked(make()) as client:
        yield client


class _HeldJobs:
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


def test_clips_of_a_job_are_answered_as_those_of_requests(client: TestClient, clips: Clips) -> None:
    """202 and its address at once; a damaged clip has a problem, and the others their answers."""
    sent = post_job(client, clips["red low"], b"no clip at all " * 20, clips["blue high"], labels=CLASSES)
    assert sent.status_code == 202
    job = sent.json()
    assert sent.headers["location"] == job["links"]["self"] == f"/v1/jobs/{job['id']}"
    assert (job["n_clips"], job["ended"]) == (3, None)
    done = ended(client, job)
    assert (done["state"], done["n_done"], done["n_failed"], done["progress"]) == ("done", 3, 1, 1)
    assert [(one["index"], one["name"], one["state"]) for one in done["clips"]] == [
        (0, "0.mp4", "done"),
        (1, "1.mp4", "failed"),
        (2, "2.mp4", "done"),
    ]
    first, damaged, last = results_of(client, job)
    for line, clip in ((first, "red low"), (last, "blue high")):
        alone = classify(client, clips[clip], labels=CLASSES).json()
        assert line["predictions"] == alone["predictions"]
        assert set(line) == set(alone) | {"index", "name"}
    assert (damaged["index"], damaged["name"], damaged["code"]) == (1, "1.mp4", "not_media")
    assert damaged["status"] == 415
    assert damaged["instance"] == f"/v1/jobs/{job['id']}"


def test_events_tell_each_step_once_and_in_order(client: TestClient, clips: Clips) -> None:
    """Their ids grow; the stream ends with the job."""
    job = post_job(client, *[clips["red low"]] * 3).json()
    response = client.get(job["links"]["events"])
    assert response.headers["content-type"].startswith("text/event-stream")
    kinds = [kind for kind, _, _ in events_of(response.text)]
    assert [kind for kind in kinds if kind == "clip"] == kinds[-1 - kinds.count("clip") : -1]
    assert (kinds[0] in ("job", "end"), kinds[-1]) == (True, "end")
    ids = [number for _, number, _ in events_of(response.text)]
    assert ids == sorted(set(ids))


def test_a_stream_goes_on_behind_any_event(client: TestClient, clips: Clips) -> None:
    """Nothing is lost and nothing comes twice, whichever event was the last to arrive."""
    job = post_job(client, *[clips["red low"]] * 3).json()
    ended(client, job)
    address = f"/v1/jobs/{job['id']}/events"
    whole = events_of(client.get(address, headers={"Last-Event-ID": "0"}).text)
    assert [(kind, data.get("index")) for kind, _, data in whole] == [
        ("clip", 0),
        ("clip", 1),
        ("clip", 2),
        ("end", None),
    ]
    for place, (_, number, _) in enumerate(whole[:-1]):
        rest = client.get(address, headers={"Last-Event-ID": str(number)})
        assert events_of(rest.text) == whole[place + 1 :]
    assert client.get(address, headers={"Last-Event-ID": str(whole[-1][1])}).status_code == 204
    wrong = client.get(address, headers={"Last-Event-ID": "x"})
    assert (wrong.status_code, wrong.json()["code"]) == (422, "invalid_option")


def test_a_stream_outlives_the_deadline_of_requests(
    make: Make, clips: Clips, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request that came later has been answered 504 when the stream still tells what happens."""
    held = _HeldJobs(monkeypatch)
    with asked(make(request_timeout_s=0.3)) as client, ThreadPoolExecutor(1) as other:
        job = post_job(client, clips["red low"]).json()
        assert held.entered.acquire(timeout=WAIT_S)
        stream = other.submit(client.get, job["links"]["events"])
        _wait_for_watchers(client)
        with halted(decoder_of_requests(client)):
            assert classify(client, clips["red low"], labels=["red"]).status_code == 504
        held.go_on.set()
        kinds = [kind for kind, _, _ in events_of(stream.result(WAIT_S).text)]
    assert kinds[-2:] == ["clip", "end"]


def _wait_for_watchers(client: TestClient) -> None:
    jobs = _app_of(client).state.context.jobs
    wait_until(client, lambda: len(jobs._watchers))


def _app_of(client: TestClient) -> Any:
    return client.app


def test_idle_streams_send_comments_and_are_bounded(
    make: Make, clips: Clips, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So proxies keep them open; one too many is refused with 429, before it begins."""
    held = _HeldJobs(monkeypatch)
    monkeypatch.setattr(events, "HEARTBEAT_S", 0.0)
    with asked(make()) as client, ThreadPoolExecutor(1) as other:
        job = post_job(client, clips["red low"]).json()
        assert held.entered.acquire(timeout=WAIT_S)
        stream = other.submit(client.get, job["links"]["events"])
        _wait_for_watchers(client)
        tick(client)
        monkeypatch.setattr(board, "_MAX_WATCHERS", 1)
        refused = client.get(job["links"]["events"])
        tick(client)
        held.go_on.set()
        text = stream.result(WAIT_S).text
    assert ": ping" in text
    assert events_of(text)[-1][0] == "end"
    assert (refused.status_code, refused.json()["code"]) == (429, "overloaded")


def test_streams_end_when_the_service_does(make: Make, clips: Clips, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a shutdown would wait for jobs; the client comes back with the id of the last event."""
    held = _HeldJobs(monkeypatch)
    with asked(make()) as client, ThreadPoolExecutor(1) as other:
        job = post_job(client, clips["red low"]).json()
        assert held.entered.acquire(timeout=WAIT_S)
        stream = other.submit(client.get, job["links"]["events"])
        _wait_for_watchers(client)
        call(client, _app_of(client).state.context.jobs.end_streams)
        assert "end" not in [kind for kind, _, _ in events_of(stream.result(WAIT_S).text)]
        held.go_on.set()


def test_the_etag_of_a_job_changes_with_it(make: Make, clips: Clips, monkeypatch: pytest.MonkeyPatch) -> None:
    """So asking again and again costs little."""
    held = _HeldJobs(monkeypatch)
    with asked(make()) as client:
        job = post_job(client, clips["red low"]).json()
        assert held.entered.acquire(timeout=WAIT_S)
        running = client.get(job["links"]["self"])
        assert (running.json()["state"], results_of(client, job)) == ("running", [])
        etag = running.headers["ETag"]
        for known in (etag, f'W/{etag}, "x"', "*"):
            answer = client.get(job["links"]["self"], headers={"If-None-Match": known})
            assert (answer.status_code, answer.headers["ETag"]) == (304, etag)
        held.go_on.set()
        ended(client, job)
        assert client.get(job["links"]["self"], headers={"If-None-Match": etag}).status_code == 200


@pytest.mark.parametrize(
    ("fields", "status", "code"),
    [
        ({"labels": []}, 422, "no_labels"),
        ({"labels": "a,b"}, 422, "ambiguous_labels"),
        ({"labels": [], "label_set": "nowhere"}, 404, "unknown_label_set"),
        ({"bundle": "nope"}, 404, "unknown_bundle"),
        ({"return": "srt"}, 422, "invalid_option"),
        ({"nonsense": "1"}, 422, "invalid_option"),
        ({"webhook": "https://hooks.example/"}, 422, "invalid_option"),
    ],
)
def test_what_is_wrong_with_the_form_is_told_at_once(
    running: TestClient, clips: Clips, fields: dict[str, Any], status: int, code: str
) -> None:
    """No job is made, and nothing stays on disk."""
    response = post_job(running, clips["red low"], **fields)
    assert (response.status_code, response.json()["code"]) == (status, code)
    assert running.get("/v1/jobs").json() == {"jobs": [], "next_cursor": None}
    assert _files(running) == []


def _files(client: TestClient) -> list[str]:
    """What is in the folder of jobs, apart from locks."""
    folder = _app_of(client).state.context.jobs.store.folder.path
    return [path.name for path in folder.rglob("*") if path.is_file() and path.name != "lock"]


def test_the_body_of_a_job_has_a_limit_of_its_own(make: Make, clips: Clips) -> None:
    """All jobs together, and so one, have as many bytes; the number of jobs is bounded too."""
    with asked(make(max_upload_bytes=1000, max_job_bytes=100_000, max_jobs=1)) as client:
        large = post_job(client, bytes(100_000))
        first = post_job(client, clips["red low"])
        second = post_job(client, clips["red low"])
        assert client.delete(ended(client, first.json())["links"]["self"]).status_code == 204
        third = post_job(client, clips["red low"])
    assert (large.status_code, large.json()["code"]) == (413, "body_too_large")
    assert (first.status_code, third.status_code) == (202, 202)
    assert (second.status_code, second.json()["code"]) == (429, "overloaded")
    assert second.headers["Retry-After"]


def test_stored_jobs_leave_less_room_for_those_that_arrive(make: Make, clips: Clips) -> None:
    """What arrives is counted together with what is stored, so the disk has one bound."""
    with asked(make(max_job_bytes=100_000)) as client, stopped_decoder(client, clips["red low"]):
        assert post_job(client, bytes(60_000)).status_code == 202
        refused = post_job(client, bytes(60_000))
    assert (refused.status_code, refused.json()["code"]) == (429, "overloaded")


def test_keys_see_their_own_jobs_only(make: Make, clips: Clips, tmp_path: Path) -> None:
    """Those of others are as if they did not exist, but for admin keys."""
    one, other = new_key(tmp_path, "classify"), new_key(tmp_path, "classify")
    admin, editor = new_key(tmp_path, "admin"), new_key(tmp_path, "labels")
    with asked(make()) as client:
        job = post_job(client, clips["red low"], headers=one).json()
        ended(client, job, headers=one)
        for address in ("", "/results", "/events"):
            path = f"/v1/jobs/{job['id']}{address}"
            assert client.get(path, headers=one).status_code == 200
            assert client.get(path, headers=admin).status_code == 200
            assert client.get(path, headers=editor).status_code == 403
            hidden = client.get(path, headers=other)
            assert (hidden.status_code, hidden.json()["code"]) == (404, "unknown_job")
        assert client.delete(f"/v1/jobs/{job['id']}", headers=other).status_code == 404
        assert client.post(f"/v1/jobs/{job['id']}/cancel", headers=other).status_code == 404
        listed = [len(client.get("/v1/jobs", headers=key).json()["jobs"]) for key in (one, other, admin)]
        assert listed == [1, 0, 1]
        assert client.delete(f"/v1/jobs/{job['id']}", headers=admin).status_code == 204


def test_a_key_may_have_a_quota_of_jobs(make: Make, clips: Clips, tmp_path: Path) -> None:
    """Of those that are kept."""
    key = new_key(tmp_path, "classify", jobs=1)
    with asked(make()) as client:
        assert post_job(client, clips["red low"], headers=key).status_code == 202
        refused = post_job(client, clips["red low"], headers=key)
    assert (refused.status_code, refused.json()["code"]) == (403, "quota_exceeded")


def test_jobs_are_listed_a_page_at_a_time(running: TestClient, clips: Clips) -> None:
    """The latest first."""
    ids = [post_job(running, clips["red low"]).json()["id"] for _ in range(3)]
    first = running.get("/v1/jobs", params={"limit": 2}).json()
    assert [job["id"] for job in first["jobs"]] == ids[:0:-1]
    last = running.get("/v1/jobs", params={"limit": 2, "cursor": first["next_cursor"]}).json()
    assert ([job["id"] for job in last["jobs"]], last["next_cursor"]) == (ids[:1], None)
    wrong = running.get("/v1/jobs", params={"cursor": "job_x"})
    assert (wrong.status_code, wrong.json()["code"]) == (422, "invalid_option")


def test_a_request_sent_again_returns_the_same_job(make: Make, clips: Clips, tmp_path: Path) -> None:
    """By its Idempotency-Key, which is the owner's own; the body is not even looked at."""
    one, other = new_key(tmp_path, "classify"), new_key(tmp_path, "classify")
    once = {"Idempotency-Key": "upload-7"}
    with asked(make()) as client:
        job = post_job(client, clips["red low"], headers={**one, **once})
        again = post_job(client, headers={**one, **once})
        others = post_job(client, clips["red low"], headers={**other, **once})
        wrong = post_job(client, clips["red low"], headers={**one, "Idempotency-Key": "two words"})
    assert (again.status_code, again.headers["location"]) == (202, job.headers["location"])
    assert others.json()["id"] != job.json()["id"]
    assert (wrong.status_code, wrong.json()["code"]) == (422, "invalid_option")


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
        killed, app = decoder_of_jobs(client), _app_of(client)
        cancelled = client.post(f"{job['links']['self']}/cancel")
        assert (cancelled.status_code, cancelled.json()["state"]) == (200, "cancelled")
        wait_until(client, lambda: not app.state.context.jobs.running)
        assert ended(client, post_job(client, clips["red low"]).json())["state"] == "done"
        assert decoder_of_jobs(client) != killed
        assert [one["state"] for one in ended(client, job)["clips"]] == ["cancelled"] * 2
        assert (results_of(client, job), _files(client)) == ([], [])
        again = client.post(f"{job['links']['self']}/cancel")
        assert (again.status_code, again.json()["ended"]) == (200, cancelled.json()["ended"])


def test_deleting_ends_the_work_too(make: Make, clips: Clips) -> None:
    """At any time; then there is no such job, and its stream of events ends."""
    with asked(make()) as client, ThreadPoolExecutor(1) as other:
        with stopped_decoder(client, clips["red low"]):
            job = post_job(client, clips["red low"]).json()
            stream = other.submit(client.get, job["links"]["events"])
            _wait_for_watchers(client)
            assert client.delete(job["links"]["self"]).status_code == 204
            assert "end" not in [kind for kind, _, _ in events_of(stream.result(WAIT_S).text)]
            running = _app_of(client).state.context.jobs.running
            wait_until(client, lambda: not running)
        assert _files(client) == []
        for path in ("", "/results", "/events"):
            assert client.get(f"{job['links']['self']}{path}").status_code == 404
        assert client.post(f"{job['links']['self']}/cancel").status_code == 404
        assert client.delete(job["links"]["self"]).status_code == 404


def test_results_expire(make: Make, clips: Clips) -> None:
    """410 says so for as long again; then there is no such job."""
    clock = Clock()
    with clocked(make(job_expiry_s=3600), clock) as client:
        job = ended(client, post_job(client, clips["red low"], headers={"Idempotency-Key": "k"}).json())
        clock.forward(minutes=59)
        tick(client)
        assert len(results_of(client, job)) == 1
        clock.forward(minutes=1)
        tick(client)
        gone = client.get(job["links"]["results"])
        assert (gone.status_code, gone.json()["code"]) == (410, "job_expired")
        record = client.get(job["links"]["self"]).json()
        assert (record["state"], record["clips"]) == ("expired", [])
        assert events_of(client.get(job["links"]["events"]).text)[-1][0] == "end"
        assert post_job(client, clips["red low"], headers={"Idempotency-Key": "k"}).json()["id"] != job["id"]
        clock.forward(hours=1)
        tick(client)
        assert client.get(job["links"]["self"]).status_code == 404


@pytest.mark.parametrize("patience_s", [WAIT_S, 0.0])
def test_a_job_gives_way_to_requests_for_a_while(
    make: Make, clips: Clips, monkeypatch: pytest.MonkeyPatch, patience_s: float
) -> None:
    """It is not begun while as many clips of requests are worked on as can be decoded, unless that lasts."""
    monkeypatch.setattr("service.api.jobs.runner.PATIENCE_S", patience_s)
    with asked(make(max_concurrency=2)) as client, ThreadPoolExecutor(1) as other:
        with halted(decoder_of_requests(client)):
            request = other.submit(classify, client, clips["red low"], labels=["red"])
            workers = _app_of(client).state.context.clip_workers
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
    held = _HeldJobs(monkeypatch)
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
        app = _app_of(client)
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
    runner = _app_of(running).state.job_runner
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
            assert _files(client) == []
    with asked(make()) as client:
        refused = client.post("/v1/jobs", files={"labels": (None, "blue")}, data={"url": "http://a.example/"})
    assert (refused.status_code, refused.json()["code"]) == (422, "url_refused")


def test_an_answer_waits_for_room_in_memory(make: Make, clips: Clips) -> None:
    """Results are read row by row, each within the bytes of unread answers."""
    with asked(make()) as client, ThreadPoolExecutor(1) as other:
        job = ended(client, post_job(client, clips["red low"]).json())
        budget: ByteBudget = _app_of(client).state.context.budget
        n_free = budget.n_free
        call(client, budget.take, n_free)
        waiting = other.submit(results_of, client, job)
        assert client.get(job["links"]["self"]).status_code == 200
        assert not waiting.done()
        call(client, budget.give_back, n_free)
        assert len(waiting.result(WAIT_S)) == 1
        assert budget.n_free == n_free


def test_metrics_count_jobs_and_their_clips(running: TestClient, clips: Clips) -> None:
    """For alarms on jobs that pile up."""
    ended(running, post_job(running, clips["red low"], b"nonsense").json())
    tick(running)
    text = running.get("/metrics").text
    assert 'ahse_job_clips_total{outcome="answer"} 1.0' in text
    assert 'ahse_job_clips_total{outcome="problem"} 1.0' in text
    assert "ahse_jobs 0.0" in text
