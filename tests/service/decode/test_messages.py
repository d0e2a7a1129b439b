"""Messages over a socket: nothing is waited for longer, and nothing taken that is larger, than it may be."""

import socket
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from service.decode import messages


class _Counting(socket.socket):
    """Counts its calls."""

    n_calls = 0

    def recv_into(self, *arguments: Any) -> int:
        """See `socket.socket`."""
        self.n_calls += 1
        return super().recv_into(*arguments)


def test_an_array_is_received_in_one_call() -> None:
    """However many it is sent in: after each, the thread would wait for the interpreter's lock again."""
    sent = np.random.default_rng(0).bytes(4_000_000)
    ours, theirs = socket.socketpair()
    received = bytearray(len(sent))
    with ThreadPoolExecutor(1) as sender, _Counting(fileno=ours.detach()) as counting, theirs:
        sending = sender.map(theirs.sendall, [sent[i::50] for i in range(50)])
        messages.fill(counting, memoryview(received), messages.within(60))
        assert len(list(sending)) == 50
    assert received == b"".join(sent[i::50] for i in range(50))
    assert counting.n_calls == 1


def test_a_process_that_stops_in_the_middle_is_not_waited_for_longer_than_it_may_take() -> None:
    """What has come by then does not extend it."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(bytes(10))
        with pytest.raises(TimeoutError):
            messages.fill(ours, memoryview(bytearray(11)), messages.within(0.02))


def test_a_process_that_reads_no_longer_is_not_waited_for() -> None:
    """One that was taken over could otherwise hold a thread of the service for ever."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        messages.bound_sending(ours, 0.02)
        with pytest.raises(OSError, match="unavailable"):
            ours.sendall(bytes(4_000_000))


def test_a_header_of_unlimited_length_is_rejected() -> None:
    """The length of a header is limited."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(b"\xff\xff\xff\xff")
        with pytest.raises(EOFError):
            messages.receive(ours)
