"""Lines of JSON that are large, and clients that read them slowly: they take room in memory until then."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.testclient import TestClient

from service.api.guard import byte_budget
from service.api.guard.byte_budget import SMALL_BYTES, ByteBudget
from service.api.jobs import events
from service.api.jobs.board import JobBoard
from service.api.lines import count_line, cut_line
from service.api.question import Answer, Question
from service.jobs.job import Outcome
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
    """A store of one job whose clips are done."""

    def __init__(self, n_clips: int) -> None:
        self.n_clips, self.n_read = n_clips, 0

    def clips(self, _: str) -> list[Any]:
        """The clips."""
        return [SimpleNamespace(index=index, name="c") for index in range(self.n_clips)]

    def outcome(self, _: str, index: int) -> Outcome:
        """One of them; it is counted."""
        self.n_read += 1
        return Outcome("answer", json.dumps({"index": index}))


def test_of_results_that_wait_for_room_one_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits does not count: of 20 readers of large results each would have one in memory."""
    monkeypatch.setattr(byte_budget, "SMALL_BYTES", 0)
    monkeypatch.setattr(events, "_PAUSE_S", 0.0)
    store, budget = _Outcomes(3), ByteBudget(100)

    async def ask_store(function: Callable[..., Any], *args: Any) -> Any:
        await asyncio.sleep(0)
        return function(*args)

    async def read(context: Any) -> list[bytes]:
        return [piece async for piece in events.result_lines(context, SimpleNamespace(id="job"))]  # type: ignore[arg-type]  # stands for one

    async def read_all() -> list[list[bytes]]:
        jobs: Any = JobBoard(store, None)  # type: ignore[arg-type]  # stand for both
        context = SimpleNamespace(budget=budget, ask_store=ask_store, jobs=jobs)
        budget.take(100)
        streams = [asyncio.create_task(read(context)) for _ in range(5)]
        for _ in range(50):
            await asyncio.sleep(0)
        assert store.n_read == 1
        budget.give_back(100)
        return await asyncio.gather(*streams)

    expected = [f'{{"name":"c","index": {index}}}\n'.encode() for index in range(3)]
    assert asyncio.run(read_all()) == [expected] * 5
    assert (store.n_read, budget.n_free) == (15, 100)


def test_a_line_that_is_larger_than_the_budget_takes_all_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else it would never have room."""
    monkeypatch.setattr(byte_budget, "SMALL_BYTES", 0)
    budget = ByteBudget(10)
    with budget.share() as share:
        count_line(b"x" * 11, share)
        assert budget.n_free == 0


def test_room_of_results_is_given_back_when_their_client_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    """At once, not when the stream is collected as garbage."""
    monkeypatch.setattr(byte_budget, "SMALL_BYTES", 0)
    store, budget = _Outcomes(1), ByteBudget(100)

    async def ask_store(function: Callable[..., Any], *args: Any) -> Any:
        return function(*args)

    async def leave() -> None:
        jobs: Any = JobBoard(store, None)  # type: ignore[arg-type]  # stand for both
        context: Any = SimpleNamespace(budget=budget, ask_store=ask_store, jobs=jobs)
        stream = events.ResultStream(context, SimpleNamespace(id="job"))  # type: ignore[arg-type]  # stands for one
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
