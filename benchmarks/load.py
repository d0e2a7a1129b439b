"""Load: clients that send a request as soon as the one before was answered, over connections kept open."""

from __future__ import annotations

import http.client
import itertools
import json
import statistics
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from typing import Any

_BOUNDARY = "a9c1f0e5benchmark"
CONTENT_TYPE = f"multipart/form-data; boundary={_BOUNDARY}"
_TIMEOUT_S = 600


@dataclass(frozen=True)
class Measured:
    """What a number of clients saw."""

    clips_per_s: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    n_requests: int
    steps_ms: dict[str, float]
    """median time of each step by the server's own account, where it gives one."""


def form(clip: bytes, fields: Iterable[tuple[str, str]]) -> bytes:
    """A multipart form with a file."""
    parts = [
        f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
        for name, value in fields
    ]
    head = f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="clip"\r\n'
    return b"".join(
        [*parts, head.encode(), b"Content-Type: video/mp4\r\n\r\n", clip, f"\r\n--{_BOUNDARY}--\r\n".encode()]
    )


def measure(
    port: int, body_of: Callable[[int], bytes], n_clients: int, n_requests: int, *, may_fail: bool = False
) -> Measured:
    """Send so many requests from so many clients at once.

    Args:
        port: of the server on this machine.
        body_of: the form of a request, by its number.
        n_clients: requests under way at a time.
        n_requests: of all clients together.
        may_fail: some clips are meant to be refused.

    Raises:
        SystemExit: a request was not answered with 200, or with 4xx where that may be.
    """
    numbers, answers, lock = iter(range(n_requests)), list[tuple[float, Any]](), threading.Lock()

    def client() -> None:
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT_S)) as connection:
            while True:
                with lock:
                    number = next(numbers, None)
                if number is None:
                    break
                answer = post(connection, body_of(number), may_fail=may_fail)
                with lock:
                    answers.append(answer)

    started = time.perf_counter()
    with ThreadPoolExecutor(n_clients) as threads:
        clients = [threads.submit(client) for _ in range(n_clients)]
    seconds = time.perf_counter() - started
    failures = [failure for one in clients if (failure := one.exception())]
    if failures:
        missing = n_requests - len(answers)
        raise SystemExit(f"{missing} of {n_requests} requests were not answered: {failures[0]}")
    times = [ms for ms, _ in answers]
    told = [answer["timings_ms"] for _, answer in answers if "timings_ms" in answer] or [{}]
    steps = {step: statistics.median(one[step] for one in told) for step in told[0]}
    return Measured(
        n_requests / seconds,
        _quantile(times, 0.5),
        _quantile(times, 0.95),
        _quantile(times, 0.99),
        n_requests,
        steps,
    )


def post(connection: http.client.HTTPConnection, body: bytes, *, may_fail: bool = False) -> tuple[float, Any]:
    """One request: its wall time in milliseconds, and the answer."""
    headers = {"Content-Type": CONTENT_TYPE}
    started = time.perf_counter()
    connection.request("POST", "/v1/classify", body, headers)
    response = connection.getresponse()
    answer = response.read()
    ms = (time.perf_counter() - started) * 1000
    if response.status != http.HTTPStatus.OK and not (may_fail and response.status < 500):
        raise SystemExit(f"answered {response.status}: {answer[:300].decode(errors='replace')}")
    return ms, json.loads(answer)


def _quantile(times: list[float], share: float) -> float:
    return sorted(times)[round(share * (len(times) - 1))]


def unique_labels(n: int) -> Callable[[int], list[str]]:
    """Names that no request before had, n for each request number; all have as many tokens."""
    run = next(_RUNS)
    return lambda number: [f"name {run}-{number}-{index:04}" for index in range(n)]


_RUNS = itertools.count()
