"""Clients of a cluster: some edit label sets and remember what was acknowledged, others have clips ranked."""

from __future__ import annotations

import http.client
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

TIMEOUT_S = 60.0
_N_EDITORS, _N_RANKERS = 3, 3
# Of an edit: a minute in which nothing works.
_MAX_TRIES, _PAUSE_S = 1200, 0.05
_DONE = (HTTPStatus.OK, HTTPStatus.CREATED, HTTPStatus.NO_CONTENT)
_PASSING = (
    HTTPStatus.TOO_MANY_REQUESTS,
    HTTPStatus.BAD_GATEWAY,
    HTTPStatus.SERVICE_UNAVAILABLE,
    HTTPStatus.GATEWAY_TIMEOUT,
)


class Answer(NamedTuple):
    """Of a request.

    Attributes:
        status: 0: none came.
        body: Its object.
        is_stale: Of a label set, as it was read last: the replica has not found the database again.
    """

    status: int
    body: dict[str, Any]
    is_stale: bool = False


@dataclass
class Tally:
    """What came of requests, of all clients together. Only counters are shared.

    Attributes:
        edits: By status.
        rankings: By status.
        stale: Rankings with a label set as it was read last.
        faults: What must not happen, in words.
        slowest_s: Of all requests.
    """

    edits: Counter[int] = field(default_factory=Counter)
    rankings: Counter[int] = field(default_factory=Counter)
    stale: int = 0
    faults: list[str] = field(default_factory=list)
    slowest_s: float = 0.0


class Client:
    """Sends requests to the balancer, each on a connection of its own.

    Args:
        port: Of the balancer.
        tally: Is kept up to date.
    """

    def __init__(self, port: int, tally: Tally) -> None:
        self._port, self.tally = port, tally

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        kind: str = "application/json",
        request_id: str | None = None,
    ) -> Answer:
        """The status and the object of an answer.

        A failure must say when to come back, and what happened in the form of all problems; an answer that
        does not come, and one without a clean status, is a fault.
        """
        began = time.monotonic()
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=TIMEOUT_S)
        try:
            headers = {} if body is None else {"Content-Type": kind}
            headers |= {} if request_id is None else {"X-Request-ID": request_id}
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            content = response.read()
            answer = json.loads(content) if content else {}
        except (OSError, http.client.HTTPException, ValueError) as error:
            self.tally.faults.append(f"{method} {path}: {type(error).__name__}: {error}")
            return Answer(0, {})
        finally:
            connection.close()
            self.tally.slowest_s = max(self.tally.slowest_s, time.monotonic() - began)
        if response.status in _PASSING and (
            response.getheader("Retry-After") is None or "code" not in answer
        ):
            self.tally.faults.append(f"{method} {path}: {response.status} without Retry-After or code")
        elif response.status not in (*_DONE, *_PASSING):
            self.tally.faults.append(f"{method} {path}: {response.status} {answer.get('code')}")
        return Answer(response.status, answer, is_stale=response.getheader("Warning") is not None)

    def read(self, label_set: str) -> Answer:
        """A label set as it is stored now, not as a replica has read it last."""
        for _ in range(_MAX_TRIES):
            answer = self.ask("GET", label_set)
            if answer.status not in _PASSING and not answer.is_stale:
                return answer
            time.sleep(_PAUSE_S)
        self.tally.faults.append(f"{label_set} was never read from the database")
        return Answer(0, {})


class Editor(Client):
    """Adds names to a label set of its own and takes some out again.

    What was answered with a failure is sent again, with the same id, until it is acknowledged: so it is known
    what the set must hold, to the last name.
    """

    def __init__(self, port: int, tally: Tally, number: int) -> None:
        super().__init__(port, tally)
        self._chance = random.Random(number)  # noqa: S311  (repeatable, not secret)
        self._path = f"/v1/label-sets/edited-{uuid4().hex[:8]}"
        self._n_names = 0
        self._names: list[str] = []
        self.n_acknowledged = 0
        self._send("PUT", self._path, b'{"labels": []}')

    def step(self) -> None:
        """One edit."""
        if self._names and self._chance.random() < 0.3:
            name = self._names.pop(self._chance.randrange(len(self._names)))
            self._send("DELETE", f"{self._path}/labels/{name}")
        else:
            name, self._n_names = f"name-{self._n_names}", self._n_names + 1
            self._send("POST", f"{self._path}/labels", json.dumps({"labels": [name]}).encode())
            self._names.append(name)
        self.n_acknowledged += 1

    def _send(self, method: str, path: str, body: bytes | None = None) -> None:
        request_id = uuid4().hex
        for _ in range(_MAX_TRIES):
            status = self.ask(method, path, body, request_id=request_id).status
            self.tally.edits[status] += 1
            if status in _DONE:
                return
            time.sleep(_PAUSE_S)
        self.tally.faults.append(f"{method} {path} was never acknowledged")

    def check(self) -> None:
        """Compare what is stored with what was acknowledged, in order."""
        status, answer, _ = self.read(self._path)
        found = [label["name"] for label in answer["labels"]] if status == HTTPStatus.OK else []
        if found != self._names:
            differing = set(found) ^ set(self._names)
            self.tally.faults.append(f"{self._path} is not as acknowledged: {status}, {sorted(differing)}")


class Ranker(Client):
    """Has a clip ranked by a label set, and knows the answer."""

    def __init__(self, port: int, tally: Tally, body: bytes, kind: str, expected: str) -> None:
        super().__init__(port, tally)
        self._body, self._kind, self._expected = body, kind, expected
        self.n_ranked = 0

    def step(self) -> None:
        """One clip."""
        status, answer, _ = self.ask("POST", "/v1/classify", self._body, self._kind)
        self.tally.rankings[status] += 1
        if status == HTTPStatus.OK:
            self.n_ranked += 1
            self.tally.stale += bool(answer["warnings"])
            if answer["predictions"][0]["label"] != self._expected:
                self.tally.faults.append(f"a wrong answer: {answer['predictions'][0]['label']}")


@dataclass(frozen=True)
class Load:
    """Clients at work."""

    tally: Tally
    editors: Sequence[Editor]
    rankers: Sequence[Ranker]

    @property
    def n_acknowledged(self) -> int:
        """Edits so far."""
        return sum(one.n_acknowledged for one in self.editors)

    def has_acknowledged(self, n: int) -> bool:
        """Whether so many edits were acknowledged."""
        return self.n_acknowledged >= n

    def progress(self) -> list[int]:
        """What each client has done so far."""
        return [
            *(one.n_acknowledged for one in self.editors),
            *(one.n_ranked for one in self.rankers),
        ]

    @property
    def n_ranked(self) -> int:
        """Clips so far."""
        return sum(one.n_ranked for one in self.rankers)


@contextmanager
def load(port: int, clip: Path, label_set: str, expected: str) -> Iterator[Load]:
    """Clients work inside the block; at its end everything is compared with what was acknowledged.

    Args:
        port: Of the balancer.
        clip: What is ranked.
        label_set: By which; put before.
        expected: The label that it has first.
    """
    tally = Tally()
    body, kind = form(clip, label_set)
    editors = [Editor(port, tally, number) for number in range(_N_EDITORS)]
    rankers = [Ranker(port, tally, body, kind, expected) for _ in range(_N_RANKERS)]
    stop = threading.Event()

    def work(client: Editor | Ranker) -> None:
        while not stop.is_set():
            client.step()

    threads = [threading.Thread(target=work, args=(one,)) for one in (*editors, *rankers)]
    for thread in threads:
        thread.start()
    try:
        yield Load(tally, editors, rankers)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    for editor in editors:
        editor.check()


def form(clip: Path, label_set: str) -> tuple[bytes, str]:
    """Body and content type of a request that has a clip ranked by a label set."""
    head = 'Content-Disposition: form-data; name="{}"'
    body = b"\r\n".join(
        [
            *(b"--b", head.format("label_set").encode(), b"", label_set.encode()),
            *(b"--b", f'{head.format("file")}; filename="clip.mp4"'.encode(), b"", clip.read_bytes()),
            *(b"--b--", b""),
        ]
    )
    return body, "multipart/form-data; boundary=b"
