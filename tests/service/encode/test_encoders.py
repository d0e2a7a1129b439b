"""Two encoders at once."""

from __future__ import annotations

import threading

import pytest

from service.cancellation import Client, served_client
from service.encode.encoders import both


def test_both_run_at_the_same_time() -> None:
    """Each waits for the other, which would never end one after the other."""
    meet = threading.Barrier(2, timeout=30)
    assert both(lambda: (meet.wait(), "first")[1], lambda: (meet.wait(), "second")[1]) == ("first", "second")


def test_the_client_is_known_to_both() -> None:
    """So work for one that has gone can be dropped in either."""
    client = Client()
    with client.served():
        assert both(served_client, served_client) == (client, client)


def test_an_error_comes_through_from_either() -> None:
    """And the other one has ended by then."""
    ended = []

    def fail() -> None:
        raise RuntimeError("broken")

    for first, second in ((fail, lambda: ended.append(1)), (lambda: ended.append(2), fail)):
        with pytest.raises(RuntimeError, match="broken"):
            both(first, second)
    assert ended == [1, 2]
