"""Small, cheap requests that once brought the service down, against a real server: `make attack`.

    python -m tests.attack.cheap_requests [--bundle weights/everyday] [--out docs/results]

Each attack has a server of its own. While it goes on, a client of good will asks as well, and what matters is
what that one gets, and what the attack leaves in memory.
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
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from benchmarks.load import CONTENT_TYPE, form
from benchmarks.servers import Server, running, serve_command
from tests.attack.figures import write_figures

PORT = 18_790
EXAMPLE = sorted((Path(__file__).resolve().parents[2] / "examples").glob("*.mp4"))[0]
_PATIENCE_S = 300.0
_FORM = {"Content-Type": CONTENT_TYPE}
_JSON = {"Content-Type": "application/json"}
Figures = dict[str, Any]


def main() -> None:
    """Attack, print and write the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bundle", type=Path, default=Path("weights/everyday"))
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    options = parser.parse_args()
    attacks: dict[str, Callable[[Server], Figures]] = {
        "64 templates of 246 placeholders, 4 names of 256 characters": _placeholders,
        "150 bodies held one byte short of 8 MB": _held_bodies,
        "100 clients that do not read 100,000 names": _unread_answers,
        "8 requests of 5,000 new names": _new_names,
        "136 clips sent with a byte in ten seconds": _slow_clips,
        "2,000 idle connections and half headers": _idle_connections,
        "24 label sets of 100,000 names": _large_sets,
        "10,000 made-up methods": _methods,
    }
    rows = [{"attack": name, **_attack(attack, options.bundle)} for name, attack in attacks.items()]
    write_figures(options.out, "cheap requests", "python -m tests.attack.cheap_requests", {"attacks": rows})


def _attack(attack: Callable[[Server], Figures], bundle: Path) -> Figures:
    with (
        tempfile.TemporaryDirectory() as folder,
        running(serve_command(bundle, PORT, Path(folder)), PORT) as server,
    ):
        assert _classify() == 200  # also makes the names of the good client known
        before_mib = server.memory_mib()
        figures = attack(server)
        return {
            "what the others got": figures["others"],
            "answers to the attacker": figures["attacker"],
            "MiB before": round(before_mib),
            "MiB at most": round(server.peak_memory_mib()),
            "MiB afterwards": round(server.memory_mib()),
        }


def _ask(method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None) -> int:
    """The status of an answer that was read; 0: the connection was lost."""
    connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=_PATIENCE_S)
    try:
        connection.request(method, path, body, headers or {})
        response = connection.getresponse()
        response.read()
        return response.status
    except OSError:
        return 0
    finally:
        connection.close()


def _classify() -> int:
    return _ask("POST", "/v1/classify", form(EXAMPLE.read_bytes(), [("labels", "a"), ("labels", "b")]), _FORM)


class _Others:
    """A client of good will, which asks again and again while the `with` block lasts."""

    def __init__(self, ask: Callable[[], int]) -> None:
        self._ask = ask
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._repeat)
        self._seconds: list[float] = []
        self._statuses: list[int] = []

    def _repeat(self) -> None:
        while not self._ends.is_set():
            began = time.perf_counter()
            self._statuses.append(self._ask())
            self._seconds.append(time.perf_counter() - began)
            self._ends.wait(0.05)

    def __enter__(self) -> _Others:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.set()
        self._thread.join()

    def __str__(self) -> str:
        return f"{_counts(self._statuses)}, slowest {max(self._seconds):.2f} s"


def _counts(statuses: list[int]) -> str:
    names = {status: str(status) if status else "connection closed" for status in statuses}
    return ", ".join(f"{statuses.count(status)} x {names[status]}" for status in sorted(names))


def _ready() -> int:
    return _ask("GET", "/v2/health/ready")


def _placeholders(_: Server) -> Figures:
    fields = [("labels", f"{index}{'x' * 255}") for index in range(4)]
    fields += [("templates", f"{index} " + "{}" * 246) for index in range(64)]
    with _Others(_ready) as others:
        status = _ask("POST", "/v1/classify", form(EXAMPLE.read_bytes(), fields), _FORM)
    return {"others": f"health: {others}", "attacker": _counts([status])}


@contextmanager
def _connected(n: int, sent: bytes) -> Iterator[list[socket.socket]]:
    """Connections that have sent some bytes, as far as the service took them."""
    with ExitStack() as stack:
        sockets = []
        for _ in range(n):
            one = stack.enter_context(socket.create_connection(("127.0.0.1", PORT), timeout=_PATIENCE_S))
            with contextlib.suppress(OSError):
                one.sendall(sent)
            sockets.append(one)
        yield sockets


def _status_of(one: socket.socket) -> int:
    try:
        head = one.recv(4096)
        return int(head.split()[1]) if head else 0
    except OSError:
        return 0


def _held_bodies(_: Server) -> Figures:
    n_bytes = 8 * 2**20
    head = (
        "PUT /v1/label-sets/s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Content-Length: {n_bytes}\r\n\r\n"
    )
    with _Others(_classify) as others, _connected(150, head.encode() + b" " * (n_bytes - 1)) as held:
        statuses = [_status_of(one) for one in held]
    return {"others": f"clips: {others}", "attacker": _counts(statuses)}


def _put_names(name: str, n: int = 100_000) -> int:
    body = json.dumps({"labels": [f"{name} {index} {'x' * 40}" for index in range(n)]}).encode()
    return _ask("PUT", f"/v1/label-sets/{name}", body, _JSON)


def _unread_answers(_: Server) -> Figures:
    assert _put_names("large") == 201
    get = b"GET /v1/label-sets/large HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with _Others(_classify) as others, _connected(100, get) as sockets:
        time.sleep(30)  # what a client does that reads nothing
        statuses = [_status_of(one) for one in sockets]
    return {"others": f"clips: {others}", "attacker": _counts(statuses)}


def _new_names(_: Server) -> Figures:
    def attack(number: int) -> int:
        names = json.dumps([f"name {number} {index}" for index in range(5_000)])
        return _ask("POST", "/v1/classify", form(EXAMPLE.read_bytes(), [("labels", names)]), _FORM)

    with _Others(_classify) as others, ThreadPoolExecutor(8) as threads:
        statuses = list(threads.map(attack, range(8)))
    return {"others": f"clips with known names: {others}", "attacker": _counts(statuses)}


def _slow_clips(_: Server) -> Figures:
    head = (
        "POST /v1/classify HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n"
        f"Content-Type: {_FORM['Content-Type']}\r\n\r\n"
    )
    with _connected(136, head.encode() + b"-") as slow, _Others(_classify) as others:
        for _round in range(3):
            time.sleep(10)
            for one in slow:
                with contextlib.suppress(OSError):
                    one.sendall(b"-")
        statuses = [_status_of(one) for one in slow]
    return {"others": f"clips: {others}", "attacker": _counts(statuses)}


def _idle_connections(_: Server) -> Figures:
    with (
        _Others(_ready) as others,
        _connected(1_000, b"GET / HTTP/1.1\r\nHost") as half,
        _connected(1_000, b"") as idle,
    ):
        time.sleep(15)
        statuses = [_status_of(one) for one in [*half, *idle]]
    return {"others": f"health: {others}", "attacker": _counts(statuses)}


def _large_sets(_: Server) -> Figures:
    with _Others(_ready) as others, ThreadPoolExecutor(24) as threads:
        statuses = list(threads.map(_put_names, [f"s{index}" for index in range(24)]))
    return {"others": f"health: {others}", "attacker": _counts(statuses)}


def _methods(_: Server) -> Figures:
    with _Others(_ready) as others:
        statuses = [_ask(f"METHOD{index}", "/v1/info") for index in range(10_000)]
        connection = http.client.HTTPConnection("127.0.0.1", PORT)
        connection.request("GET", "/metrics")
        n_bytes = len(connection.getresponse().read())
        connection.close()
    return {"others": f"health: {others}; /metrics has {n_bytes} bytes", "attacker": _counts(statuses)}


if __name__ == "__main__":
    main()
