"""Lines of JSON that are large, and clients that read them slowly: they take room in memory until then."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import aclosing
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.requests import ClientDisconnect
from starlette.testclient import TestClient

from service.api.guard import byte_budget
from service.api.guard.byte_budget import SMALL_BYTES, ByteBudget
from service.api.jobs import events
from service.api.jobs.board import JobBoard
from service.api.lines import count_line, cut_line
from service.api.question import Answer, Question
from service.errors import UnknownJobError
from service.jobs.job import JobClip, Outcome
from tests.service.api.guard.guarded import Make, asked
from tests.service.api.jobs_client import app_of, call

BUDGET = 2**20
_SERVER = {"scheme": "http", "server": ("127.0.0.1", 8000), "client": ("127.0.0.1", 1)}
Answering = Callable[[int], None]


@pytest.fixture
def answering(monkeypatch: pytest.MonkeyPatch) -> Answering:
    """Lets each clip have an answer of so many bytes."""

    def answering(n_bytes: int) -> None:
        async def ask(_: Question, __: object, index: int) -> Answer:
            return Answer(json.dumps({"index": index, "text": "x" * n_bytes}), {})

        monkeypatch.setattr(Question, "ask", ask)

    return answering


def _app(make: Make) -> Any:
    return make(max_json_bytes=100_000, max_bytes_in_flight=BUDGET)


def _form_of(client: TestClient, n_clips: int) -> Any:
    parts = [("files", ("clip", b"a clip"))] * n_clips
    return client.build_request("POST", "/v1/classify", files=parts, data={"labels": "red"})


@pytest.mark.parametrize("n_bytes", [600_000, 1_200_000])
def test_a_line_is_sent_however_large_it_is(make: Make, answering: Answering, n_bytes: int) -> None:
    """Over half of what all may hold, and over all of it, as the first line and as a later one."""
    answering(n_bytes)
    with asked(_app(make)) as client:
        answer = client.send(_form_of(client, 3))
        assert app_of(client).state.context.budget.n_free == BUDGET
    assert answer.status_code == 200
    lines = [json.loads(line) for line in answer.text.splitlines()]
    assert [(line["index"], len(line["text"])) for line in lines] == [(index, n_bytes) for index in range(3)]


def test_a_line_counts_until_its_last_piece_is_taken(make: Make, answering: Answering) -> None:
    """The server waits before it takes a piece, so no more than one is unread when it counts no longer."""
    answering(600_000)
    sent: list[tuple[bytes, int]] = []
    with asked(_app(make)) as client:
        request, budget = _form_of(client, 2), app_of(client).state.context.budget

        async def exchange() -> None:
            messages = [{"type": "http.request", "body": request.read()}]

            async def receive() -> Any:
                return messages.pop() if messages else await asyncio.Event().wait()

            async def send(message: Any) -> None:
                if message.get("body"):
                    sent.append((message["body"], budget.n_free))

            headers = [(name.lower().encode(), value.encode()) for name, value in request.headers.items()]
            scope = {"type": "http", "method": "POST", "path": "/v1/classify", "query_string": b""}
            await client.app({**scope, **_SERVER, "headers": headers}, receive, send)

        call(client, exchange)
        assert budget.n_free == BUDGET
    n_counted = len(b"".join(piece for piece, _ in sent)) // 2 - SMALL_BYTES
    assert {n_free for _, n_free in sent} == {BUDGET - n_counted}
    assert max(len(piece) for piece, _ in sent) == SMALL_BYTES


def test_a_line_without_room_is_a_problem(make: Make, answering: Answering) -> None:
    """Of its own; small ones need none."""
    with asked(_app(make)) as client:
        budget = app_of(client).state.context.budget
        call(client, budget.take, BUDGET)
        answers = []
        for n_bytes in (600_000, 100):
            answering(n_bytes)
            answers.append(client.send(_form_of(client, 1)).json())
        call(client, budget.give_back, BUDGET)
    assert [one.get("code") for one in answers] == ["overloaded", None]


def test_a_line_is_cut_without_loss() -> None:
    """The last piece is what is left."""
    line = bytes(range(256)) * 1000
    pieces = list(cut_line(line))
    assert b"".join(pieces) == line
    assert [len(piece) for piece in pieces] == [SMALL_BYTES] * 3 + [len(line) - 3 * SMALL_BYTES]
    assert list(cut_line(b"")) == []


class _Outcomes:
    """A store of jobs whose clips are done; the id of a job is how many bytes each outcome has."""

    def __init__(self, n_clips: int) -> None:
        self.n_clips, self.read = n_clips, list[str]()

    def clips(self, job_id: str) -> list[JobClip]:
        """The clips."""
        return [JobClip(index, "c", "done", 1, int(job_id)) for index in range(self.n_clips)]

    def outcome(self, job_id: str, index: int) -> Outcome:
        """One of them; it is noted."""
        self.read.append(job_id)
        return Outcome("answer", json.dumps({"index": index}).ljust(int(job_id)))


async def _ask_store(function: Callable[..., Any], *args: Any) -> Any:
    await asyncio.sleep(0)
    return function(*args)


def _context(store: Any, budget: ByteBudget) -> Any:
    jobs: Any = JobBoard(store, None)  # type: ignore[arg-type]  # stands for a folder
    return SimpleNamespace(budget=budget, ask_store=_ask_store, jobs=jobs)


def test_results_are_read_when_they_have_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """None that waits for room is in memory, and small ones do not wait for large ones."""
    monkeypatch.setattr(byte_budget, "SMALL_BYTES", 0)
    monkeypatch.setattr(events, "_PAUSE_S", 0.0)
    store, budget = _Outcomes(2), ByteBudget(1000)

    async def read(job_id: str) -> int:
        lines = events.result_lines(_context(store, budget), job_id)
        return b"".join([piece async for piece in lines]).count(b"\n")

    async def read_all() -> list[int]:
        budget.take(500)
        large = [asyncio.create_task(read("900")) for _ in range(5)]
        for _ in range(50):
            await asyncio.sleep(0)
        assert await read("100") == 2
        assert store.read == ["100", "100"]
        budget.give_back(500)
        return await asyncio.gather(*large)

    assert asyncio.run(read_all()) == [2] * 5
    assert (len(store.read), budget.n_free) == (12, 1000)


def test_a_result_counts_as_what_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its name too, however it is written."""
    monkeypatch.setattr(byte_budget, "SMALL_BYTES", 0)
    store, budget = _Outcomes(1), ByteBudget(1000)

    async def held() -> int:
        async with aclosing(events.result_lines(_context(store, budget), "50")) as lines:
            line = await anext(lines)
            return 1000 - budget.n_free - len(line)

    assert asyncio.run(held()) == 0


def test_a_line_that_is_larger_than_the_budget_takes_all_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else it would never have room."""
    monkeypatch.setattr(byte_budget, "SMALL_BYTES", 0)
    budget = ByteBudget(10)
    with budget.share() as share:
        count_line(11, share)
        assert budget.n_free == 0


def test_room_of_results_is_given_back_when_their_client_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    """At once, not when the stream is collected as garbage."""
    monkeypatch.setattr(byte_budget, "SMALL_BYTES", 0)
    store, budget = _Outcomes(1), ByteBudget(100)

    async def leave() -> None:
        stream = events.ResultStream(_context(store, budget), "50")
        is_sending = asyncio.Event()

        async def send(message: Any) -> None:
            if message.get("body"):
                is_sending.set()
                await asyncio.Event().wait()

        async def receive() -> Any:
            await is_sending.wait()
            assert budget.n_free < 100
            return {"type": "http.disconnect"}

        scope = {"type": "http", "state": {"lift_deadline": lambda: None}}
        await stream(scope, receive, send)
        assert budget.n_free == 100

    asyncio.run(leave())


def test_results_of_a_job_that_is_deleted_meanwhile_break_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else what came so far would look like all of them."""
    store = _Outcomes(2)

    async def read() -> None:
        stream = events.ResultStream(_context(store, ByteBudget(100)), "50")
        sent = []

        async def send(message: Any) -> None:
            sent.append(message)
            monkeypatch.setattr(store, "outcome", lambda *_: None)

        async def receive() -> Any:
            return await asyncio.Event().wait()

        with pytest.raises(UnknownJobError):
            await stream({"type": "http", "state": {"lift_deadline": lambda: None}}, receive, send)
        assert [message.get("more_body") for message in sent] == [None, True]

    asyncio.run(read())


def test_a_client_that_leaves_while_its_results_wait_for_room_is_noticed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Else it would wait on, and take room for nobody."""
    monkeypatch.setattr(events, "_PAUSE_S", 0.0)
    store, budget = _Outcomes(1), ByteBudget(1_000_000)

    async def read() -> None:
        stream = events.ResultStream(_context(store, budget), "900000")

        async def never(_: Any) -> None:
            raise AssertionError

        async def receive() -> Any:
            return {"type": "http.disconnect"}

        budget.take(500_000)
        with pytest.raises(ClientDisconnect):
            await stream({"type": "http", "state": {"lift_deadline": lambda: None}}, receive, never)

    asyncio.run(read())
    assert (store.read, budget.n_free) == ([], 500_000)
