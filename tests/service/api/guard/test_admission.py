"""What clients may hold at once, and for how long. Steps wait for events, not for time."""

from __future__ import annotations

import asyncio
import json
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.types import Message, Receive, Scope, Send

from service.api.guard import admission, byte_budget
from service.api.guard.admission import Admission, BodyBounds
from service.api.guard.byte_budget import ByteBudget
from service.cancellation import current_token
from service.errors import OverloadedError

WAIT_S = 30.0
BOUNDS = BodyBounds(
    max_upload_bytes=1_000,
    max_json_bytes=100,
    max_job_bytes=1_000,
    max_clips=1,
    max_jobs=1,
    pause_s=WAIT_S,
    body_timeout_s=WAIT_S,
    min_bytes_per_s=1,
    request_timeout_s=WAIT_S,
)


@pytest.fixture(autouse=True)
def more_than_ten_bytes_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that small bodies will do."""
    monkeypatch.setattr(admission, "SMALL_BYTES", 10)
    monkeypatch.setattr(byte_budget, "SMALL_BYTES", 10)


class _Client:
    """One request, whose body and reading of the answer go on when they are told to."""

    def __init__(
        self, app: Any, path: str = "/v1/label-sets/s", method: str = "PUT", **headers: str | int
    ) -> None:
        self._body: asyncio.Queue[Message] = asyncio.Queue()
        self.reads = asyncio.Event()
        self.reads.set()
        self.status: int | None = None
        self.answer = b""
        encoded = [(name.replace("_", "-").encode(), str(value).encode()) for name, value in headers.items()]
        scope: Scope = {
            "type": "http",
            "method": method,
            "path": path,
            "query_string": b"",
            "headers": encoded,
            "server": ("test", 80),
            "state": {"request_id": "x"},
        }
        self.task = asyncio.create_task(app(scope, self._body.get, self._send))

    def sends(self, body: bytes, *, more: bool = False) -> None:
        """The next part of the body."""
        self._body.put_nowait({"type": "http.request", "body": body, "more_body": more})

    async def _send(self, message: Message) -> None:
        self.status = message.get("status", self.status)
        self.answer += message.get("body", b"")
        if message.get("body"):
            await self.reads.wait()

    async def code(self) -> str:
        """The code of the problem, once the request has ended."""
        async with asyncio.timeout(WAIT_S):
            await self.task
        return str(json.loads(self.answer)["code"])


async def _settle() -> None:
    """Let every task run as far as it can."""
    for _ in range(10):
        await asyncio.sleep(0)


async def _read_all(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers with the length of the body, once it is whole."""
    del scope
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": str(len(body)).encode()})


async def _large(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers with 90 bytes."""
    del scope, receive
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"x" * 90})


def _bounds(**changed: Any) -> BodyBounds:
    return BodyBounds(**{**vars(BOUNDS), **changed})


def test_bodies_in_memory_share_one_budget() -> None:
    """150 bodies held one byte short of their end took a gigabyte: now the fourth is refused, unread."""

    async def ask() -> None:
        app = Admission(_read_all, BOUNDS, ByteBudget(300))
        held = [_Client(app, content_length=100) for _ in range(3)]
        for one in held:
            one.sends(b"x" * 99, more=True)
        await _settle()
        refused = _Client(app, content_length=100)
        assert await refused.code() == "overloaded"
        assert refused.status == 429
        small = _Client(app, content_length=10)
        small.sends(b"x" * 10)
        await small.task
        held[0].sends(b"x")
        await held[0].task
        later = _Client(app, content_length=100)
        later.sends(b"y" * 100)
        await later.task
        assert (held[0].answer, later.answer, small.status) == (b"100", b"100", 200)
        for one in held[1:]:
            one.task.cancel()

    asyncio.run(ask())


def test_jobs_that_arrive_take_no_place_of_a_clip() -> None:
    """Nor a clip one of theirs; they have a size of their own. What asks for jobs takes no place at all."""

    async def ask() -> None:
        app = Admission(_read_all, _bounds(max_upload_bytes=100, max_job_bytes=200), ByteBudget(300))
        clip = _Client(app, "/v1/classify", "POST", content_length=100)
        job = _Client(app, "/v1/jobs", "POST", content_length=200)
        await _settle()
        refused = {
            path: _Client(app, path, "POST", content_length=1) for path in ("/v1/classify", "/v1/jobs")
        }
        details = [json.loads(one.answer)["detail"] for one in refused.values() if await one.code()]
        assert ["as many clips" in details[0], "as many jobs" in details[1]] == [True, True]
        listing = _Client(app, "/v1/jobs", "GET")
        listing.sends(b"")
        await listing.task
        clip.sends(b"x" * 100)
        job.sends(b"x" * 200)
        await asyncio.gather(clip.task, job.task)
        assert (clip.answer, job.answer, listing.status) == (b"100", b"200", 200)
        assert await _Client(app, "/v1/jobs", "POST", content_length=201).code() == "body_too_large"

    asyncio.run(ask())


@pytest.mark.parametrize("headers", [{"transfer_encoding": "chunked"}, {}, {"content_length": "9" * 5_000}])
def test_a_body_of_unknown_length_counts_as_the_longest(headers: dict[str, str]) -> None:
    """Otherwise leaving the length out would go around the budget."""

    async def ask() -> None:
        app = Admission(_read_all, BOUNDS, ByteBudget(150))
        first = _Client(app, **headers)
        await _settle()
        assert await _Client(app, **headers).code() == "overloaded"
        first.sends(b"x")
        await first.task
        assert first.status == 200

    asyncio.run(ask())


def test_large_answers_count_until_they_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients that ask for large label sets and do not read them can't fill the memory either."""
    monkeypatch.setattr(admission, "SMALL_BYTES", 50)

    async def ask() -> None:
        budget = ByteBudget(200)
        app = Admission(_large, BOUNDS, budget)
        reading = [_Client(app, method="GET") for _ in range(2)]
        for one in reading:
            one.reads.clear()
        await _settle()
        assert budget.n_free == 20
        refused = _Client(app, method="GET")
        assert await refused.code() == "overloaded"
        reading[0].reads.set()
        await reading[0].task
        later = _Client(app, method="GET")
        await later.task
        assert (refused.status, later.status, len(later.answer)) == (429, 200, 90)
        reading[1].reads.set()
        await reading[1].task
        assert budget.n_free == 200

    asyncio.run(ask())


def test_an_answer_that_is_larger_than_the_budget_takes_all_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """It waits until nothing else is held; else it could never be read."""
    monkeypatch.setattr(admission, "SMALL_BYTES", 50)

    async def ask() -> None:
        budget = ByteBudget(80)
        app = Admission(_large, BOUNDS, budget)
        budget.take(1)
        assert await _Client(app, method="GET").code() == "overloaded"
        budget.give_back(1)
        reading = _Client(app, method="GET")
        reading.reads.clear()
        await _settle()
        assert budget.n_free == 0
        reading.reads.set()
        await reading.task
        assert (reading.status, len(reading.answer), budget.n_free) == (200, 90, 80)

    asyncio.run(ask())


@pytest.mark.parametrize(("path", "budget"), [("/v1/classify", 1_000), ("/v1/label-sets/s", 100)])
def test_the_slowest_body_gives_way_where_others_wait(
    path: str, budget: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """136 clients that sent a byte in ten seconds kept all others out for over a minute."""
    monkeypatch.setattr(admission, "_SHORT_GRACE_S", 0.0)

    async def ask() -> None:
        app = Admission(_read_all, _bounds(min_bytes_per_s=10**9), ByteBudget(budget))
        slow = _Client(app, path, content_length=100)
        slow.sends(b"x", more=True)
        await _settle()
        other = _Client(app, path, content_length=100)
        other.sends(b"y" * 100)
        assert await slow.code() == "upload_stalled"
        await other.task
        assert (slow.status, other.status) == (408, 200)

    asyncio.run(ask())


def test_a_body_at_a_fair_rate_keeps_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """And so does one that is whole: then it is the service that takes long."""
    monkeypatch.setattr(admission, "_SHORT_GRACE_S", 0.0)

    async def ask() -> None:
        app = Admission(_read_all, _bounds(min_bytes_per_s=1), ByteBudget(100))
        fair = _Client(app, "/v1/classify", content_length=100)
        fair.sends(b"x" * 99, more=True)
        await _settle()
        assert await _Client(app, "/v1/classify", content_length=100).code() == "overloaded"
        fair.sends(b"x")
        await fair.task
        assert fair.status == 200

    asyncio.run(ask())


@pytest.mark.parametrize(
    "bounds",
    [_bounds(pause_s=0.01), _bounds(body_timeout_s=0.01), _bounds(min_bytes_per_s=10**9)],
    ids=["pause", "whole time", "rate"],
)
def test_a_body_that_takes_too_long_is_answered_408(
    bounds: BodyBounds, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever it has sent by then."""
    monkeypatch.setattr(admission, "_GRACE_S", 0.01)

    async def ask() -> None:
        client = _Client(Admission(_read_all, bounds, ByteBudget(100)), content_length=100)
        client.sends(b"x", more=True)
        assert await client.code() == "upload_stalled"
        assert client.status == 408

    asyncio.run(ask())


def test_time_in_which_the_service_itself_is_busy_is_not_the_clients(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A disk that is slow makes no upload slow: only the time that is waited for the client counts."""
    now = 100.0
    monkeypatch.setattr(admission, "time", SimpleNamespace(monotonic=lambda: now))

    async def ask() -> None:
        nonlocal now
        app = Admission(busy, _bounds(min_bytes_per_s=10, body_timeout_s=10**6), ByteBudget(100))
        client = _Client(app, content_length=100)
        client.sends(b"x", more=True)
        client.sends(b"y")
        await client.task
        assert client.status == 200

    async def busy(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal now
        await receive()
        now += 1_000
        await _read_all(scope, receive, send)

    asyncio.run(ask())


def test_the_whole_time_of_a_body_holds_where_more_is_always_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A client that drips fast enough never lets the service wait, which alone would never end it."""
    now = 100.0
    monkeypatch.setattr(admission, "time", SimpleNamespace(monotonic=lambda: now))

    async def ask() -> None:
        client = _Client(Admission(busy, BOUNDS, ByteBudget(100)), content_length=100)
        client.sends(b"x", more=True)
        client.sends(b"y")
        assert await client.code() == "upload_stalled"

    async def busy(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal now
        await receive()
        now += WAIT_S
        await _read_all(scope, receive, send)

    asyncio.run(ask())


def test_the_deadline_cancels_the_token_of_the_request() -> None:
    """Counted from the end of the body, with the reason that makes it a 504."""

    async def ask() -> None:
        client = _Client(Admission(wait, _bounds(request_timeout_s=0.01), ByteBudget(100)), content_length=1)
        client.sends(b"x")
        await client.task
        assert reasons == ["deadline"]

    async def wait(scope: Scope, receive: Receive, send: Send) -> None:
        del scope, send
        token, cancelled = current_token(), asyncio.Event()
        assert token is not None
        with token.on_cancel(cancelled.set):
            await receive()
            await asyncio.wait_for(cancelled.wait(), WAIT_S)
        reasons.append(token.reason)

    reasons: list[str | None] = []
    asyncio.run(ask())


def test_a_share_of_the_budget_grows_and_is_given_back() -> None:
    """For the fields of a form, whose size is known at their end only."""
    budget = ByteBudget(100)
    with budget.share() as share:
        share.grow_to(60)
        share.grow_to(80)
        assert budget.n_free == 30
        with pytest.raises(OverloadedError):
            share.grow_to(111)
        assert budget.n_free == 30
    assert budget.n_free == 100
