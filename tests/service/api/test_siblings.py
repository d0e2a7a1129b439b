"""Workers ask each other: who hangs, or does not know the key, gets and costs nothing."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from service.api.prometheus import Metrics, text_of_workers
from service.api.siblings import Siblings, Worker

KEY = "a key"


def _worker(folder: Path, number: int) -> Worker:
    return Worker(number, 3, folder, KEY)


@pytest.fixture
def two(tmp_path: Path) -> Iterator[tuple[Siblings, Siblings]]:
    """The first two of three workers, which answer with their number and what they were asked."""
    folder = tmp_path / "sockets"
    folder.mkdir()
    with ExitStack() as stack:

        def sibling(number: int) -> Siblings:
            answers = {"echo": lambda text: f"{number} heard " + 50 * text}
            return stack.enter_context(closing(Siblings(_worker(folder, number), answers)))

        yield sibling(0), sibling(1)


def test_each_of_the_others_is_asked(two: tuple[Siblings, Siblings]) -> None:
    """The third does not run: it has no answer."""
    assert two[0].ask("echo", "é" * 5_000, timeout_s=10) == {1: "1 heard " + "é" * 250_000}
    assert two[1].ask("echo", "", timeout_s=10) == {0: "0 heard "}


def test_one_that_hangs_is_given_up_however_often_it_is_asked(
    two: tuple[Siblings, Siblings], tmp_path: Path
) -> None:
    """Also when no more connections wait for it than may."""
    with socket.socket(socket.AF_UNIX) as hanging:
        hanging.bind(str(tmp_path / "sockets" / "2"))
        hanging.listen(2)
        for _ in range(6):
            assert list(two[0].ask("echo", "x", timeout_s=0.05)) == [1]


@pytest.mark.parametrize(
    "asked",
    [
        {"key": "another", "what": "echo", "arguments": ["x"]},
        {"key": None, "what": "echo", "arguments": ["x"]},
        {"what": "echo", "arguments": ["x"]},
        {"key": KEY, "what": "unknown", "arguments": []},
        [],
    ],
)
def test_nothing_is_told_without_the_key_or_of_what_is_unknown(
    asked: object, two: tuple[Siblings, Siblings], tmp_path: Path
) -> None:
    """And the next is answered."""
    with socket.socket(socket.AF_UNIX) as stranger:
        stranger.connect(str(tmp_path / "sockets" / "1"))
        stranger.sendall(json.dumps(asked).encode() + b"\n")
        assert stranger.recv(10) == b""
    assert two[0].ask("echo", "x", timeout_s=10)


def test_a_worker_takes_the_place_of_one_that_was_killed(tmp_path: Path) -> None:
    """Whose socket is still there. The last one to close leaves nothing behind."""
    folder = tmp_path / "sockets"
    folder.mkdir()
    with socket.socket(socket.AF_UNIX) as gone:
        gone.bind(str(folder / "0"))
    with closing(Siblings(_worker(folder, 0), {})):
        assert [path.name for path in folder.iterdir()] == ["0"]
    assert not folder.exists()
    with closing(Siblings(_worker(folder, 0), {})):  # all were ended, and are started again
        assert folder.stat().st_mode & 0o777 == 0o700


def test_the_key_is_not_shown() -> None:
    """A log may show a worker."""
    assert KEY not in repr(_worker(Path(), 0))


def test_metrics_of_workers_have_their_numbers() -> None:
    """One family of each name, and a 0 for a worker that did not answer."""
    metrics = [Metrics(), Metrics()]
    for n, one in enumerate(metrics, 1):
        for _ in range(n):
            one.request("GET", "/v1/info", 200, 0.1)
    texts = {number: one.text().decode() for number, one in zip((0, 2), metrics, strict=True)}
    lines = text_of_workers(texts, 3).decode().splitlines()
    counts = [line for line in lines if line.startswith("ahse_requests_total")]
    assert [line.split()[-1] for line in counts] == ["1.0", "2.0"]
    assert ['worker="0"' in counts[0], 'worker="2"' in counts[1]] == [True, True]
    assert lines.count("# TYPE ahse_requests_total counter") == 1
    up = [line for line in lines if line.startswith("ahse_worker_up{")]
    assert up == [f'ahse_worker_up{{worker="{k}"}} {int(k != 1)}.0' for k in range(3)]
