"""Who computes next. Every step waits for an event, none for time."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from service.batch.turns import Turns
from tests.service.batch.fakes import WAIT_S


class _Computing:
    """Threads that each take a turn, and end it when the test says so."""

    def __init__(self, turns: Turns) -> None:
        self.began: list[int] = []
        self._turns = turns
        self._changed = threading.Semaphore(0)
        self._ends = [threading.Event() for _ in range(4)]

    def run(self, number: int) -> None:
        with self._turns.turn():
            self.began.append(number)
            self._changed.release()
            assert self._ends[number].wait(WAIT_S)

    def end(self, number: int) -> None:
        self._ends[number].set()

    def wait_for_one(self) -> None:
        assert self._changed.acquire(timeout=WAIT_S)


def test_who_has_waited_longest_is_next(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also before a thread that gives its turn back and asks again at once."""
    turns = Turns(1)
    asked = threading.Semaphore(0)
    computing = _Computing(turns)

    class Telling(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            asked.release()
            return super().wait(timeout)

    with ThreadPoolExecutor(4) as threads:
        monkeypatch.setattr("service.batch.turns.threading.Event", Telling)
        running = []
        for number in range(4):
            running.append(threads.submit(computing.run, number))
            assert asked.acquire(timeout=WAIT_S)  # it has its turn, or its place in the line
        for number in range(4):
            computing.wait_for_one()
            assert computing.began == list(range(number + 1))
            computing.end(number)
        for one in running:
            one.result(WAIT_S)


def test_a_turn_that_fails_is_over() -> None:
    """The next one begins."""
    turns = Turns(1)
    with pytest.raises(KeyError), turns.turn():
        raise KeyError
    with turns.turn():
        pass


def test_so_many_compute_at_once() -> None:
    """The third of three begins when one of two has ended."""
    computing = _Computing(Turns(2))
    with ThreadPoolExecutor(3) as threads:
        running = [threads.submit(computing.run, number) for number in (0, 1)]
        computing.wait_for_one()
        computing.wait_for_one()
        running.append(threads.submit(computing.run, 2))
        assert sorted(computing.began) == [0, 1]
        computing.end(1)
        computing.wait_for_one()
        assert computing.began[2] == 2
        computing.end(0)
        computing.end(2)
        for one in running:
            one.result(WAIT_S)
