"""Small, cheap requests that once brought the service down, against a real server: `make attack`.

    python -m tests.attack.cheap_requests [--bundle weights/everyday] [--out build/attack]

Each attack has a server of its own. While it goes on, a client of good will asks as well, and what matters is
what that one gets, and what the attack leaves in memory. Ends with code 1 where that one got an error, no
answer or a late one, and where the service died.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

from benchmarks.load import CONTENT_TYPE, form
from benchmarks.servers import Server, running, serve_command
from tests.attack.figures import write_figures

PORT = 18_790
EXAMPLE = sorted((Path(__file__).resolve().parents[2] / "examples").glob("*.mp4"))[0]
_PATIENCE_S = 300.0
# Longest times of answers to the client of good will, while all processors are busy.
_HEALTH_S, _CLIP_S = 2.0, 10.0
# Several times what /metrics has; with a line for each made-up method it would be a megabyte.
_METRICS_BYTES = 100_000
_FORM = {"Content-Type": CONTENT_TYPE}
_JSON = {"Content-Type": "application/json"}
Figures = dict[str, Any]


def main() -> None:
    """Attack, print and write the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bundle", type=Path, default=Path("weights/everyday"))
    parser.add_argument("--out", type=Path, default=Path("build/attack"))
    options = parser.parse_args()
    rows: list[Figures] = []
    faults: list[str] = []
    for name, attack in ATTACKS.items():
        row, found = _attack(attack, options.bundle)
        rows.append({"attack": name, **row})
        faults += [f"{name}: {fault}" for fault in found]
    write_figures(options.out, "cheap requests", "python -m tests.attack.cheap_requests", {"attacks": rows})
    if faults:
        raise SystemExit("\n".join(faults))


def _attack(attack: Attack, bundle: Path) -> tuple[Figures, list[str]]:
    """A row of the table, and what must not have happened."""
    with (
        tempfile.TemporaryDirectory() as folder,
        running(serve_command(bundle, PORT, Path(folder)), PORT) as server,
    ):
        assert _classify() == 200  # also makes the names of the good client known
        before_mib = server.memory_mib()
        outcome = attack(server)
        metrics = f"; /metrics has {outcome.metrics_bytes} bytes" if outcome.metrics_bytes else ""
        figures = {
            "what the others got": f"{outcome.others}{metrics}",
            "answers to the attacker": _counts(outcome.attacker),
            "MiB before": round(before_mib),
            "MiB at most": round(server.peak_memory_mib()),
            "MiB afterwards": round(server.memory_mib()),
        }
        return figures, _faults(outcome, server)


def _answer(
    method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None
) -> tuple[int, bytes]:
    """Status and content of an answer; 0 and nothing: the connection was lost."""
    connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=_PATIENCE_S)
    try:
        connection.request(method, path, body, headers or {})
        response = connection.getresponse()
        return response.status, response.read()
    except (OSError, http.client.HTTPException):
        return 0, b""
    finally:
        connection.close()


def _ask(method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None) -> int:
    return _answer(method, path, body, headers)[0]


def _classify() -> int:
    return _ask("POST", "/v1/classify", form(EXAMPLE.read_bytes(), [("labels", "a"), ("labels", "b")]), _FORM)


class _Others:
    """A client of good will, which asks again and again, at least once, while the `with` block lasts.

    Args:
        what: It asks for.
        ask: Sends one request and returns the status of its answer; 0: there was none.
        within_s: Longest time of an answer.
        fine: Statuses that it may be answered.
    """

    def __init__(
        self, what: str, ask: Callable[[], int], within_s: float, fine: Sequence[int] = (HTTPStatus.OK,)
    ) -> None:
        self._what, self._ask, self._within_s, self._fine = what, ask, within_s, fine
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._repeat)
        self._seconds: list[float] = []
        self._statuses: list[int] = []

    def _repeat(self) -> None:
        while not (self._seconds and self._ends.wait(0.05)):
            began = time.perf_counter()
            self._statuses.append(self._ask())
            self._seconds.append(time.perf_counter() - began)

    def __enter__(self) -> _Others:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.set()
        self._thread.join()

    def __str__(self) -> str:
        return f"{self._what}: {_counts(self._statuses)}, slowest {max(self._seconds):.2f} s"

    def faults(self) -> list[str]:
        """What it must not have got, in words."""
        wrong = [status for status in self._statuses if status not in self._fine]
        found = [f"{self._what}: {_counts(wrong)}"] if wrong else []
        if (slowest := max(self._seconds)) > self._within_s:
            found.append(f"{self._what}: slowest {slowest:.2f} s, more than {self._within_s:g} s")
        return found


@dataclass(frozen=True)
class _Outcome:
    """Of an attack.

    Attributes:
        others: The client of good will.
        attacker: Statuses that the attacker was answered; 0: the connection was closed.
        metrics_bytes: Length of /metrics, after an attack that might make it grow.
    """

    others: _Others
    attacker: list[int]
    metrics_bytes: int = 0


def _faults(outcome: _Outcome, server: Server) -> list[str]:
    found = outcome.others.faults()
    if n_errors := outcome.attacker.count(HTTPStatus.INTERNAL_SERVER_ERROR):
        found.append(f"{n_errors} requests of the attacker met an unforeseen error")
    if outcome.metrics_bytes > _METRICS_BYTES:
        found.append(f"/metrics has grown to {outcome.metrics_bytes} bytes")
    if not server.memory_mib():
        found.append("the service died")
    return found


Attack = Callable[[Server], _Outcome]


def _counts(statuses: list[int]) -> str:
    names = {status: str(status) if status else "connection closed" for status in statuses}
    return ", ".join(f"{statuses.count(status)} x {names[status]}" for status in sorted(names))


def _ready() -> int:
    return _ask("GET", "/v2/health/ready")


def _placeholders(_: Server) -> _Outcome:
    fields = [("labels", f"{index}{'x' * 255}") for index in range(4)]
    fields += [("templates", f"{index} " + "{}" * 246) for index in range(64)]
    with _Others("health", _ready, _HEALTH_S) as others:
        status = _ask("POST", "/v1/classify", form(EXAMPLE.read_bytes(), fields), _FORM)
    return _Outcome(others, [status])


@contextmanager
def _connected(n: int, sent: bytes) -> Iterator[list[socket.socket]]:
    """Connections that have sent some bytes, as far as the service took them."""
    with ExitStack() as stack:
        sockets = []
        for _ in range(n):
            with contextlib.suppress(ConnectionError, TimeoutError):
                one = stack.enter_context(socket.create_connection(("127.0.0.1", PORT), timeout=_PATIENCE_S))
                sockets.append(one)
                one.sendall(sent)
        yield sockets


def _status_of(one: socket.socket) -> int:
    try:
        head = one.recv(4096)
        return int(head.split()[1]) if head else 0
    except OSError:
        return 0


def _held_bodies(_: Server) -> _Outcome:
    n_bytes = 8 * 2**20
    head = (
        "PUT /v1/label-sets/s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Content-Length: {n_bytes}\r\n\r\n"
    )
    with (
        _Others("clips", _classify, _CLIP_S) as others,
        _connected(150, head.encode() + b" " * (n_bytes - 1)) as held,
    ):
        statuses = [_status_of(one) for one in held]
    return _Outcome(others, statuses)


def _put_names(name: str, n: int = 100_000) -> int:
    body = json.dumps({"labels": [f"{name} {index} {'x' * 40}" for index in range(n)]}).encode()
    return _ask("PUT", f"/v1/label-sets/{name}", body, _JSON)


def _unread_answers(_: Server) -> _Outcome:
    assert _put_names("large") == 201
    get = b"GET /v1/label-sets/large HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with _Others("clips", _classify, _CLIP_S) as others, _connected(100, get) as sockets:
        time.sleep(30)  # what a client does that reads nothing
        statuses = [_status_of(one) for one in sockets]
    return _Outcome(others, statuses)


def _new_names(_: Server) -> _Outcome:
    def attack(number: int) -> int:
        names = json.dumps([f"name {number} {index}" for index in range(5_000)])
        return _ask("POST", "/v1/classify", form(EXAMPLE.read_bytes(), [("labels", names)]), _FORM)

    with _Others("clips", _classify, _CLIP_S) as others, ThreadPoolExecutor(8) as threads:
        statuses = list(threads.map(attack, range(8)))
    return _Outcome(others, statuses)


def _slow_clips(_: Server) -> _Outcome:
    head = (
        "POST /v1/classify HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n"
        f"Content-Type: {_FORM['Content-Type']}\r\n\r\n"
    )
    # Slow clips count as clips until they are given up: others may be told to come again.
    others = _Others("clips", _classify, _CLIP_S, (HTTPStatus.OK, HTTPStatus.TOO_MANY_REQUESTS))
    with _connected(136, head.encode() + b"-") as slow, others:
        for _round in range(3):
            time.sleep(10)
            for one in slow:
                with contextlib.suppress(OSError):
                    one.sendall(b"-")
        statuses = [_status_of(one) for one in slow]
    return _Outcome(others, statuses)


def _idle_connections(_: Server) -> _Outcome:
    with (
        _Others("health", _ready, _HEALTH_S) as others,
        _connected(1_000, b"GET / HTTP/1.1\r\nHost") as half,
        _connected(1_000, b"") as idle,
    ):
        time.sleep(15)
        statuses = [_status_of(one) for one in [*half, *idle]]
    return _Outcome(others, statuses)


def _large_sets(_: Server) -> _Outcome:
    with _Others("health", _ready, _HEALTH_S) as others, ThreadPoolExecutor(24) as threads:
        statuses = list(threads.map(_put_names, [f"s{index}" for index in range(24)]))
    return _Outcome(others, statuses)


def _many_faults(_: Server) -> _Outcome:
    zeros = b",".join([b"0"] * 4_000_000)
    bodies = [b'{"labels":[%s]}' % zeros, b'{"labels":["a"],"templates":[%s]}' % zeros]
    with _Others("health", _ready, _HEALTH_S) as others:
        statuses = [_ask("PUT", "/v1/label-sets/x", body, _JSON) for body in bodies]
        statuses.append(_ask("POST", "/v1/embeddings", b'{"model":"x","input":[%s]}' % zeros, _JSON))
    return _Outcome(others, statuses)


def _methods(_: Server) -> _Outcome:
    with _Others("health", _ready, _HEALTH_S) as others:
        statuses = [_ask(f"METHOD{index}", "/v1/info") for index in range(10_000)]
    return _Outcome(others, statuses, len(_answer("GET", "/metrics")[1]))


ATTACKS: dict[str, Attack] = {
    "64 templates of 246 placeholders, 4 names of 256 characters": _placeholders,
    "150 bodies held one byte short of 8 MB": _held_bodies,
    "100 clients that do not read 100,000 names": _unread_answers,
    "8 requests of 5,000 new names": _new_names,
    "136 clips sent with a byte in ten seconds": _slow_clips,
    "2,000 idle connections and half headers": _idle_connections,
    "24 label sets of 100,000 names": _large_sets,
    "3 bodies of 4,000,000 faults": _many_faults,
    "10,000 made-up methods": _methods,
}


if __name__ == "__main__":
    main()
