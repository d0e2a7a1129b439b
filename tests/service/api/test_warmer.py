"""Label sets that are embedded behind requests. Every step waits for an event, none for time."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest
from prometheus_client import generate_latest
from starlette.testclient import TestClient
from structlog.testing import capture_logs

from service.api import warmer as warmer_module
from service.api.app import create_app
from service.api.prometheus import Metrics
from service.api.warmer import Warmer
from service.cancellation import CancellationToken, current_token
from service.embed import embedder as embedder_module
from service.encode.encoders import Encoders
from service.encode.features import TextFeatures
from service.encode.text import encode_labels
from service.labels.label import Label
from service.settings import Settings
from tests.service.api.conftest import classify, wait_until_tried

WAIT_S = 60.0
Clips = dict[str, Path]


class _Encoding:
    """`encode_labels` that writes down what it is asked, stays in it while it is held, and may fail."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []
        self.begun, self.go_on = threading.Event(), threading.Event()
        self.go_on.set()
        self.fails = False

    def __call__(self, encoders: Encoders, labels: Sequence[Label], templates: Any = None) -> TextFeatures:
        """Encode for real, in the end."""
        self.asked.append([label.name for label in labels])
        self.begun.set()
        assert self.go_on.wait(WAIT_S)
        if self.fails:
            raise RuntimeError("broken")
        return encode_labels(encoders, labels, templates)


@pytest.fixture
def encoding(monkeypatch: pytest.MonkeyPatch) -> _Encoding:
    """In place of the text encoders."""
    found = _Encoding()
    monkeypatch.setattr(embedder_module, "encode_labels", found)
    return found


@pytest.fixture
def outcomes(monkeypatch: pytest.MonkeyPatch) -> SimpleQueue[str]:
    """What has become of sets that were to be embedded, as it is counted."""
    told, count = SimpleQueue[str](), Metrics.warm_up

    def counted(metrics: Metrics, outcome: str) -> None:
        count(metrics, outcome)
        told.put(outcome)

    monkeypatch.setattr(Metrics, "warm_up", counted)
    return told


@pytest.fixture
def served(
    toy_bundle: Path, tmp_path: Path, encoding: _Encoding, outcomes: SimpleQueue[str]
) -> Iterator[TestClient]:
    """A service that encodes as `encoding` does."""
    del encoding, outcomes
    settings = Settings(bundles=(toy_bundle,), data_dir=tmp_path, decode_workers=1, max_prompt_characters=60)
    with TestClient(create_app(settings)) as client:
        wait_until_tried(client.app)
        yield client


def _put(client: TestClient, name: str, *labels: str, warm: str = "true") -> Any:
    return client.put(f"/v1/label-sets/{name}", params={"warm": warm}, json={"labels": labels})


def test_the_first_request_finds_all_labels_embedded(
    served: TestClient, clips: Clips, encoding: _Encoding, outcomes: SimpleQueue[str]
) -> None:
    """Those of the set, and what is added to it; nothing is encoded for sets that did not ask."""
    assert _put(served, "cold", "green", "low", warm="false").status_code == 201
    assert _put(served, "s", "red", "blue").status_code == 201
    assert outcomes.get(timeout=WAIT_S) == "done"
    added = served.post("/v1/label-sets/s/labels", params={"warm": "true"}, json={"labels": ["red", "high"]})
    assert added.status_code == 200
    assert outcomes.get(timeout=WAIT_S) == "done"
    assert encoding.asked == [["red", "blue"], ["high"]]
    assert classify(served, clips["red low"], label_set="s").json()["n_labels"] == 3
    assert len(encoding.asked) == 2
    assert 'ahse_warm_ups_total{outcome="done"} 2.0' in served.get("/metrics").text


def test_no_answer_waits_for_it(
    served: TestClient, clips: Clips, encoding: _Encoding, outcomes: SimpleQueue[str]
) -> None:
    """Neither that of the change, nor of another one, nor of a request with names that are known."""
    classify(served, clips["red low"], labels=["green", "low"])
    encoding.begun.clear()
    encoding.go_on.clear()
    assert _put(served, "s", "red", "blue").status_code == 201
    assert encoding.begun.wait(WAIT_S)
    assert _put(served, "other", "green", "low").status_code == 201
    assert classify(served, clips["red low"], labels=["low", "green"]).status_code == 200
    assert outcomes.empty()
    encoding.go_on.set()
    assert [outcomes.get(timeout=WAIT_S) for _ in range(2)] == ["done", "done"]


def test_what_fails_is_logged_and_the_next_set_has_its_turn(
    served: TestClient, clips: Clips, encoding: _Encoding, outcomes: SimpleQueue[str]
) -> None:
    """An encoder that fails, more text than a request may have; the request with the set then decides."""
    encoding.fails = True
    with capture_logs() as logs:
        _put(served, "broken", "red")
        assert outcomes.get(timeout=WAIT_S) == "failed"
        _put(served, "long", "x" * 25, "y" * 25)
        assert outcomes.get(timeout=WAIT_S) == "failed"
    told = [(log["label_set"], log["code"]) for log in logs if log["event"] == "warm_up_failed"]
    assert told == [("broken", None), ("long", "too_much_text")]
    encoding.fails = False
    _put(served, "s", "blue")
    assert outcomes.get(timeout=WAIT_S) == "done"
    assert classify(served, clips["red low"], label_set="broken").status_code == 200
    assert classify(served, clips["red low"], label_set="long").json()["code"] == "too_much_text"


def test_a_set_that_changes_meanwhile_is_embedded_as_it_then_is(
    served: TestClient, encoding: _Encoding, outcomes: SimpleQueue[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """When other sets have had their turn; labels that have left it are not encoded."""
    monkeypatch.setattr(embedder_module, "_LABELS_PER_STEP", 1)
    encoding.go_on.clear()
    _put(served, "s", "red", "blue")
    assert encoding.begun.wait(WAIT_S)
    _put(served, "s", "green", warm="false")
    _put(served, "other", "yellow")
    encoding.go_on.set()
    assert [outcomes.get(timeout=WAIT_S) for _ in range(2)] == ["done"] * 2
    assert encoding.asked == [["red"], ["yellow"], ["green"]]


def test_an_empty_set_has_nothing_to_embed(served: TestClient, outcomes: SimpleQueue[str]) -> None:
    """It is no failure either."""
    _put(served, "empty")
    assert outcomes.get(timeout=WAIT_S) == "done"


def test_a_change_that_is_refused_warms_nothing(
    served: TestClient, encoding: _Encoding, outcomes: SimpleQueue[str]
) -> None:
    """A wrong word is one too."""
    assert _put(served, "s", "a", "A").json()["code"] == "duplicate_labels"
    assert _put(served, "s", "a", warm="perhaps").status_code == 422
    _put(served, "s", "red")
    assert outcomes.get(timeout=WAIT_S) == "done"
    assert encoding.asked == [["red"]]


class _Work:
    """Stands for the embedding of sets: begun one by one, and ended when it is told to."""

    def __init__(self) -> None:
        self.begun = asyncio.Queue[str]()
        self.end = asyncio.Semaphore(0)
        self.token: CancellationToken | None = None

    async def __call__(self, name: str) -> bool:
        """Embed a set."""
        self.token = current_token()
        self.begun.put_nowait(name)
        return await self.end.acquire()


def test_a_set_waits_once_and_only_so_many_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that changes while it is embedded has another turn."""
    monkeypatch.setattr(warmer_module, "_MAX_WAITING", 2)
    metrics = Metrics()

    async def ask() -> list[str]:
        work, warmer = _Work(), Warmer(metrics)
        warmer.start(work)
        warmer.ask("a")
        begun = [await work.begun.get()]
        for name in ("b", "b", "a", "c", "a"):
            warmer.ask(name)
        for _ in range(2):
            work.end.release()
            begun.append(await work.begun.get())
        work.end.release()
        await warmer.close()
        return begun

    assert asyncio.run(ask()) == ["a", "b", "a"]
    assert 'ahse_warm_ups_total{outcome="refused"} 1.0' in generate_latest(metrics.registry).decode()


def test_it_ends_while_it_works() -> None:
    """And forgets what waits; what threads do for it is cancelled, so that nobody waits for them."""

    async def end() -> bool:
        work, warmer = _Work(), Warmer(Metrics())
        warmer.start(work)
        warmer.ask("a")
        warmer.ask("b")
        await work.begun.get()
        await asyncio.wait_for(warmer.close(), WAIT_S)
        assert work.token is not None
        assert work.token.reason == "cancelled"
        return work.begun.empty()

    assert asyncio.run(end())
