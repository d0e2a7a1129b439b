"""Who computes next. Every step waits for an event, none for time."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from service.batch.turns import Turns
from tests.service.batch.fakes import WAIT_S, asked_turns


class _Computing:
    """Turns that threads take, each of which ends when the test says so."""

    def __init__(self, turns: Turns) -> None:
        self.began: list[int] = []
        self._turns = turns
        self._changed = threading.Semaphore(0)
        self._ends = [threading.Event() for _ in range(20)]

    def run(self, *numbers: int) -> None:
        """One after the other; ten of them are of one bundle."""
        for number in numbers:
            with self._turns.turn(number // 10):
                self.began.append(number)
                self._changed.release()
                assert self._ends[number].wait(WAIT_S)

    def end(self, number: int) -> None:
        self._ends[number].set()

    def wait_for_one(self) -> None:
        assert self._changed.acquire(timeout=WAIT_S)


def test_who_has_waited_longest_is_next(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also before a thread that ends its turn and asks again at once."""
    computing, asked = _Computing(Turns(1)), asked_turns(monkeypatch)
    with ThreadPoolExecutor(4) as threads:
        running = []
        for numbers in ((0, 4), (1,), (2,), (3,)):
            running.append(threads.submit(computing.run, *numbers))
            assert asked.acquire(timeout=WAIT_S)
        for number in range(5):
            computing.wait_for_one()
            assert computing.began == list(range(number + 1))
            computing.end(number)
            if number == 0:
                assert asked.acquire(timeout=WAIT_S)  # again
        for one in running:
            one.result(WAIT_S)


def test_bundles_have_their_turns_alternately(monkeypatch: pytest.MonkeyPatch) -> None:
    """One with many runs does not keep another waiting. Numbers from ten on are of the other bundle."""
    computing, asked = _Computing(Turns(1)), asked_turns(monkeypatch)
    with ThreadPoolExecutor(5) as threads:
        running = []
        for number in (0, 1, 2, 3, 11):
            running.append(threads.submit(computing.run, number))
            assert asked.acquire(timeout=WAIT_S)
        expected = [0, 1, 11, 2, 3]
        for n, number in enumerate(expected, 1):
            computing.wait_for_one()
            assert computing.began == expected[:n]
            computing.end(number)
        for one in running:
            one.result(WAIT_S)


def test_a_turn_that_fails_is_over() -> None:
    """The next one begins."""
    turns = Turns(1)
    with pytest.raises(KeyError), turns.turn(0):
        raise KeyError
    with turns.turn(0):
        pass


def test_so_many_compute_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The third of three begins when one of two has ended."""
    computing, asked = _Computing(Turns(2)), asked_turns(monkeypatch)
    with ThreadPoolExecutor(3) as threads:
        running = []
        for number in range(3):
            running.append(threads.submit(computing.run, number))
            assert asked.acquire(timeout=WAIT_S)
        computing.wait_for_one()
        computing.wait_for_one()
        assert sorted(computing.began) == [0, 1]
        computing.end(1)
        computing.wait_for_one()
        assert computing.began[2] == 2
        computing.end(0)
        computing.end(2)
        for one in running:
            one.result(WAIT_S)
