"""Streams of events and results of jobs: order, resumption, bounds, deadlines."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from service.api.guard import byte_budget
from service.api.guard.byte_budget import ByteBudget
from service.api.jobs import board, events
from tests.service.api.conftest import classify
from tests.service.api.guard.guarded import Make, asked
from tests.service.api.jobs_client import (
    WAIT_S,
    HeldJobs,
    app_of,
    call,
    decoder_of_requests,
    ended,
    events_of,
    halted,
    post_job,
    results_of,
    tick,
    wait_for_watchers,
)

Clips = dict[str, Path]


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
    held = HeldJobs(monkeypatch)
    with asked(make(request_timeout_s=0.3)) as client, ThreadPoolExecutor(1) as other:
        job = post_job(client, clips["red low"]).json()
        assert held.entered.acquire(timeout=WAIT_S)
        stream = other.submit(client.get, job["links"]["events"])
        wait_for_watchers(client)
        with halted(decoder_of_requests(client)):
            assert classify(client, clips["red low"], labels=["red"]).status_code == 504
        held.go_on.set()
        kinds = [kind for kind, _, _ in events_of(stream.result(WAIT_S).text)]
    assert kinds[-2:] == ["clip", "end"]


def test_idle_streams_send_comments_and_are_bounded(
    make: Make, clips: Clips, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So proxies keep them open; one too many is refused with 429, before it begins."""
    held = HeldJobs(monkeypatch)
    monkeypatch.setattr(events, "HEARTBEAT_S", 0.0)
    with asked(make()) as client, ThreadPoolExecutor(1) as other:
        job = post_job(client, clips["red low"]).json()
        assert held.entered.acquire(timeout=WAIT_S)
        stream = other.submit(client.get, job["links"]["events"])
        wait_for_watchers(client)
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
    held = HeldJobs(monkeypatch)
    with asked(make()) as client, ThreadPoolExecutor(1) as other:
        job = post_job(client, clips["red low"]).json()
        assert held.entered.acquire(timeout=WAIT_S)
        stream = other.submit(client.get, job["links"]["events"])
        wait_for_watchers(client)
        call(client, app_of(client).state.context.jobs.end_streams)
        assert "end" not in [kind for kind, _, _ in events_of(stream.result(WAIT_S).text)]
        held.go_on.set()


def test_an_answer_waits_for_room_in_memory(
    make: Make, clips: Clips, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Results are read row by row, each within the bytes of unread answers; small ones need no room."""
    monkeypatch.setattr(byte_budget, "SMALL_BYTES", 0)
    with asked(make()) as client, ThreadPoolExecutor(1) as other:
        job = ended(client, post_job(client, clips["red low"]).json())
        budget: ByteBudget = app_of(client).state.context.budget
        n_free = budget.n_free
        call(client, budget.take, n_free)
        waiting = other.submit(results_of, client, job)
        assert client.get(job["links"]["self"]).status_code == 200
        assert not waiting.done()
        call(client, budget.give_back, n_free)
        assert len(waiting.result(WAIT_S)) == 1
        assert budget.n_free == n_free
