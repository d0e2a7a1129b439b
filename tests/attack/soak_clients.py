"""The clients of `make soak`: well-behaved, slow, rude and hostile ones. Each notes what it was answered."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import random
import signal
import socket
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus

from benchmarks.load import CONTENT_TYPE, form
from benchmarks.servers import family
from tests.attack.damage import mutate

# Documented for anything that may have to wait: too slow, too many, not now, too long.
PASSING = frozenset({408, 429, 503, 504})
_CLASSES = ("a dog barks", "a bell rings", "an engine runs", "someone plays a guitar", "waves on a beach")
_MEGABYTE = 2**20


@dataclass
class Tally:
    """What clients were answered, by kind of client. Used by many threads; the interpreter's lock is enough.

    Attributes:
        answers: By kind and status.
        seconds: From the end of the request to the answer, by kind.
        faults: What must not happen, in words.
    """

    answers: Counter[tuple[str, int]] = field(default_factory=Counter)
    seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    faults: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Target:
    """The service under load.

    Attributes:
        port: Where it listens.
        pid: Its process.
        bundle: Name of what it serves.
        deadline_s: Its longest time for an answer.
        close_after_s: Longest time after which it must have closed a connection on which nothing is right.
        clips: Whole clips to send.
        tally: Of what it answers.
        stop: Set when clients are to end.
    """

    port: int
    pid: int
    bundle: str
    deadline_s: float
    close_after_s: float
    clips: Sequence[bytes]
    tally: Tally
    stop: threading.Event

    def ask(
        self,
        kind: str,
        method: str,
        path: str,
        body: bytes | None = None,
        content_type: str = "",
        *,
        ok: set[int],
    ) -> bytes:
        """One request over a connection of its own; its status must be among those, or a passing one."""
        headers = {"Content-Type": content_type} if content_type else {}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=self.deadline_s + 10)
        with contextlib.closing(connection):
            try:
                with contextlib.suppress(
                    BrokenPipeError, ConnectionResetError
                ):  # answered before it was sent
                    connection.request(method, path, body, headers)
                started = time.monotonic()
                response = connection.getresponse()
                content = response.read()
            except (OSError, http.client.HTTPException) as error:
                self.tally.faults.append(f"{kind}: no answer: {error!r}")
                return b""
        self._note(kind, response, content, time.monotonic() - started, ok)
        return content

    def _note(
        self, kind: str, response: http.client.HTTPResponse, content: bytes, seconds: float, ok: set[int]
    ) -> None:
        status = response.status
        self.tally.answers[kind, status] += 1
        self.tally.seconds[kind].append(seconds)
        if seconds > self.deadline_s + 5:
            self.tally.faults.append(f"{kind}: {status} after {seconds:.0f} s")
        if status not in ok | PASSING:
            self.tally.faults.append(f"{kind}: {status} {content[:200].decode(errors='replace')}")
        if status in (429, 503) and "retry-after" not in response.headers:
            self.tally.faults.append(f"{kind}: {status} without Retry-After")


Action = Callable[[Target, random.Random], None]


@dataclass(frozen=True)
class Client:
    """Does the same thing again and again.

    Attributes:
        name: Of its kind, in the report.
        act: One round.
        pause_s: Between rounds, on average.
        count: How many of them there are.
    """

    name: str
    act: Action
    pause_s: float
    count: int = 1

    def run(self, target: Target, seed: str) -> None:
        """Act until told to stop. Whatever goes wrong in the client itself is a fault of the run."""
        chance = random.Random(seed)  # noqa: S311  (repeatable, not secret)
        while not target.stop.wait(chance.uniform(0.5, 1.5) * self.pause_s):
            try:
                self.act(target, chance)
            except Exception as error:  # noqa: BLE001  (the report names it)
                target.tally.faults.append(f"{self.name}: the client failed: {error!r}")


def _classify(target: Target, kind: str, clip: bytes, fields: list[tuple[str, str]], ok: set[int]) -> bytes:
    return target.ask(kind, "POST", "/v1/classify", form(clip, fields), CONTENT_TYPE, ok=ok)


def send_clip(target: Target, chance: random.Random) -> None:
    """Known names, sometimes in segments or by key frames."""
    fields = [("labels", name) for name in _CLASSES]
    fields += chance.choice([[], [("segment_s", "1")], [("frames", "key")], [("top_k", "1")]])
    _classify(target, "clip", chance.choice(target.clips), fields, {200})


def send_new_names(target: Target, chance: random.Random) -> None:
    """Names that no request had before."""
    names = [("labels", f"a {chance.randrange(10**9)} thing") for _ in range(chance.choice((5, 50, 300)))]
    _classify(target, "new names", chance.choice(target.clips), names, {200})


def send_damaged(target: Target, chance: random.Random) -> None:
    """A damaged clip."""
    clip = mutate(target.clips, 0, chance.randrange(10**9))
    _classify(target, "damaged clip", clip, [("labels", "a"), ("labels", "b")], {200, 415, 422})


def send_nonsense(target: Target, chance: random.Random) -> None:
    """Requests that are wrong in themselves."""
    method, path, body, ok = chance.choice(
        [
            ("POST", "/v1/classify", b"--b\r\n", {400}),
            ("PUT", "/v1/label-sets/x", b"[" * 10_000, {400}),
            ("PUT", "/v1/label-sets/x", json.dumps({"labels": ["a {} {} {} {} {}"] * 2}).encode(), {422}),
            ("BREW", "/v1/models", None, {405}),
            ("GET", f"/v1/label-sets/{'x' * 5_000}", None, {422}),
            ("GET", "/nothing", None, {404}),
        ]
    )
    kind = "application/json" if method == "PUT" else "multipart/form-data; boundary=b"
    target.ask("nonsense", method, path, body, kind if body else "", ok=ok)


def reload(target: Target, _: random.Random) -> None:
    """Read the bundle again, under load."""
    target.ask("reload", "POST", f"/v1/models/{target.bundle}/reload", ok={200})


def look_around(target: Target, chance: random.Random) -> None:
    """What monitoring and people ask for."""
    path = chance.choice(["/metrics", "/v1/models", "/v1/info", "/openapi.json", "/v1/label-sets"])
    target.ask("look", "GET", path, ok={200})


def ask_live(target: Target, _: random.Random) -> None:
    """Whether the process answers."""
    target.ask("live", "GET", "/v2/health/live", ok={200})


def ask_ready(target: Target, _: random.Random) -> None:
    """Whether the service is ready; it may say 503 while killed decoders start again."""
    target.ask("ready", "GET", "/v2/health/ready", ok={200})


def kill_decoder(target: Target, chance: random.Random) -> None:
    """What the system does when memory runs short."""
    if children := family(target.pid)[1:]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(chance.choice(children), signal.SIGKILL)
            target.tally.answers["decoder killed", 0] += 1


def leave(target: Target, chance: random.Random) -> None:
    """Disconnect in the middle of an upload, or before the answer."""
    clip = chance.choice(target.clips)
    body = form(clip, [("labels", "a"), ("labels", f"b {chance.random()}")])
    head = (
        _head(len(body)) + body[: chance.randrange(len(body))]
        if chance.random() < 0.5
        else _head(len(body)) + body
    )
    with socket.create_connection(("127.0.0.1", target.port), timeout=10) as connection:
        connection.sendall(head)
        target.stop.wait(chance.uniform(0, 0.3))
    target.tally.answers["left", 0] += 1


def _head(n_bytes: int) -> bytes:
    lines = ["POST /v1/classify HTTP/1.1", "Host: 127.0.0.1", f"Content-Type: {CONTENT_TYPE}"]
    return "\r\n".join([*lines, f"Content-Length: {n_bytes}", "", ""]).encode()


def send_half_header(target: Target, chance: random.Random) -> None:
    """A request that never begins."""
    head = _head(100)
    _drip(target, "half header", head[: chance.randint(1, len(head) - 3)], b"")


def drip_header(target: Target, _: random.Random) -> None:
    """A byte of a header now and then."""
    _drip(target, "dripping header", b"GET /v1/models HTTP/1.1\r\nX: ", b"x")


def drip_body(target: Target, _: random.Random) -> None:
    """A byte of an upload now and then."""
    _drip(target, "dripping body", _head(_MEGABYTE) + form(b"", [])[:100], b"\0")


def drip_json(target: Target, _: random.Random) -> None:
    """A byte of a label set now and then, behind a tenth of it."""
    head = b"PUT /v1/label-sets/slow HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    _drip(target, "dripping JSON", head + b"Content-Length: 1000000\r\n\r\n" + b" " * 100_000, b" ")


def sit_idle(target: Target, chance: random.Random) -> None:
    """A connection that is not used, from the start or after an answer."""
    first = chance.choice([b"", b"GET /v2/health/live HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"])
    _drip(target, "idle connection", first, b"")


def _drip(target: Target, kind: str, first: bytes, more: bytes) -> None:
    """Send something at once and more of it slowly, until the service ends the connection, which it must."""
    started, answer = time.monotonic(), b""
    connection = socket.create_connection(("127.0.0.1", target.port), timeout=10)
    with connection, contextlib.suppress(OSError):  # the service ends it
        connection.sendall(first)
        connection.settimeout(0.5)
        while time.monotonic() - started < target.close_after_s and not target.stop.is_set():
            with contextlib.suppress(TimeoutError):
                received = connection.recv(2**16)
                if not received:
                    break
                answer += received
            connection.sendall(more)
    seconds = time.monotonic() - started
    if target.stop.is_set():
        return
    status = int(answer[9:12]) if answer[:5] == b"HTTP/" else 0
    target.tally.answers[kind, status] += 1
    if seconds >= target.close_after_s:
        target.tally.faults.append(f"{kind}: not closed after {seconds:.0f} s")
    if status not in PASSING | {0, HTTPStatus.OK}:
        target.tally.faults.append(f"{kind}: {status}")


def never_read(target: Target, _: random.Random) -> None:
    """Ask for megabytes and read nothing: the service must give up, and not keep them."""
    request = b"GET /v1/label-sets/large HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    with socket.create_connection(("127.0.0.1", target.port), timeout=10) as connection:
        connection.sendall(request * 20)
        if target.stop.wait(target.close_after_s):
            return
        connection.settimeout(10)
        n_bytes, is_closed = 0, False
        with contextlib.suppress(TimeoutError):
            try:
                while received := connection.recv(2**20):
                    n_bytes += len(received)
            except ConnectionResetError:
                pass
            is_closed = True
    target.tally.answers["never reads", 0] += 1
    if not is_closed:
        target.tally.faults.append(f"never reads: the connection was kept, {n_bytes} bytes came")


CLIENTS = (
    Client("clip", send_clip, 0.3, count=3),
    Client("new names", send_new_names, 2.0),
    Client("damaged clip", send_damaged, 0.3),
    Client("nonsense", send_nonsense, 0.5),
    Client("look", look_around, 1.0),
    Client("reload", reload, 15.0),
    Client("live", ask_live, 0.25),
    Client("ready", ask_ready, 0.25),
    Client("decoder killed", kill_decoder, 4.0),
    Client("left", leave, 1.0),
    Client("half header", send_half_header, 1.0, count=5),
    Client("dripping header", drip_header, 1.0, count=5),
    Client("dripping body", drip_body, 1.0, count=10),
    Client("dripping JSON", drip_json, 1.0, count=5),
    Client("idle connection", sit_idle, 0.5, count=20),
    Client("never reads", never_read, 2.0, count=3),
)
