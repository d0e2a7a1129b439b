"""/v1/jobs as a client sees it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from service.api.context import Context
from service.api.intake.upload_folder import UploadFolder
from service.errors import StoreUnavailableError
from service.jobs.sqlite.store import SqliteJobStore
from tests.service.api.conftest import classify
from tests.service.api.guard.guarded import Make, asked, new_key
from tests.service.api.jobs_client import (
    WAIT_S,
    Clock,
    HeldJobs,
    app_of,
    clocked,
    ended,
    events_of,
    files_of,
    post_job,
    results_of,
    stopped_decoder,
    tick,
)
from tests.toy import CLASSES

Clips = dict[str, Path]


@pytest.fixture
def running(make: Make) -> Iterator[TestClient]:
    """A service of its own."""
    with asked(make()) as client:
        yield client


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


def test_the_etag_of_a_job_changes_with_it(make: Make, clips: Clips, monkeypatch: pytest.MonkeyPatch) -> None:
    """So asking again and again costs little."""
    held = HeldJobs(monkeypatch)
    with asked(make()) as client:
        job = post_job(client, clips["red low"], clips["red low"]).json()
        assert held.entered.acquire(timeout=WAIT_S)
        running = client.get(job["links"]["self"])
        assert (running.json()["state"], results_of(client, job)) == ("running", [])
        etag = running.headers["ETag"]
        for known in (etag, f'W/{etag}, "x"', "*"):
            answer = client.get(job["links"]["self"], headers={"If-None-Match": known})
            assert (answer.status_code, answer.headers["ETag"]) == (304, etag)
        store = app_of(client).state.context.jobs.store
        claim = store.claim(Clock().now)
        both = client.get(job["links"]["self"], headers={"If-None-Match": etag})
        assert [one["state"] for one in both.json()["clips"]] == ["running"] * 2
        store.release(claim, is_tried=False)
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
    assert files_of(running) == []


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


def test_a_job_without_room_is_refused_before_its_clips_arrive(
    make: Make, clips: Clips, tmp_path: Path
) -> None:
    """Which may be gigabytes: the body, which would be refused for itself, is not even looked at."""
    small, other = new_key(tmp_path, "classify", jobs=1), new_key(tmp_path, "classify")
    with asked(make(max_jobs=2)) as client:
        assert post_job(client, headers=other).status_code == 400
        assert post_job(client, clips["red low"], headers=small).status_code == 202
        owned = post_job(client, headers=small)
        assert post_job(client, clips["red low"], headers=other).status_code == 202
        full = post_job(client, headers=other)
    assert (owned.status_code, owned.json()["code"]) == (403, "quota_exceeded")
    assert (full.status_code, full.json()["code"]) == (429, "overloaded")


def test_a_job_that_is_kept_is_accepted_whatever_fails_then(
    running: TestClient, clips: Clips, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bytes of all jobs can't be counted, say. It is worked on at once."""
    ended(running, post_job(running, clips["red low"]).json())

    def away(*_: object) -> None:
        raise StoreUnavailableError("the store can't answer now")

    monkeypatch.setattr(SqliteJobStore, "usage", away)
    sent = post_job(running, clips["red low"])
    assert sent.status_code == 202
    assert ended(running, sent.json())["state"] == "done"


def test_stored_jobs_leave_less_room_for_those_that_arrive(make: Make, clips: Clips) -> None:
    """What arrives is counted together with what is stored, so the disk has one bound."""
    with asked(make(max_job_bytes=300_000)) as client, stopped_decoder(client, clips["red low"]):
        assert post_job(client, bytes(200_000)).status_code == 202
        refused = post_job(client, bytes(200_000))
    assert (refused.status_code, refused.json()["code"]) == (429, "overloaded")


def test_jobs_that_arrive_at_other_workers_leave_less_room_too(make: Make) -> None:
    """Their disk is the same, so it has one bound for all of them."""
    with asked(make(max_job_bytes=300_000)) as client:
        jobs = app_of(client).state.context.jobs
        with UploadFolder(jobs.store.folder.path, 300_000) as other, other.private() as private:
            (private.path / "clip").write_bytes(bytes(200_000))
            tick(client)
            refused = post_job(client, bytes(200_000))
        tick(client)
        assert post_job(client, bytes(200_000)).status_code == 202
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


@pytest.mark.parametrize("method", ["clips", "outcome"])
def test_results_that_can_not_be_read_are_an_error(
    make: Make, clips: Clips, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """And not an answer that breaks off."""

    def away(*_: object) -> None:
        raise StoreUnavailableError("the store does not answer")

    with asked(make()) as client:
        job = post_job(client, clips["red low"]).json()
        ended(client, job)
        monkeypatch.setattr(app_of(client).state.context.jobs.store, method, away)
        response = client.get(f"/v1/jobs/{job['id']}/results")
    assert (response.status_code, response.json()["code"]) == (503, "store_unavailable")


def test_a_job_does_not_wait_for_clips(make: Make, clips: Clips, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading its form has a line of its own, as that of a request whose clip is at a URL."""

    async def waiting(*_: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(Context, "work_on_clip", waiting)
    with asked(make()) as client:
        assert post_job(client, clips["red low"]).status_code == 202
