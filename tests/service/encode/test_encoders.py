"""Two encoders at once."""

from __future__ import annotations

import threading

import pytest

from service.cancellation import CancellationToken, current_token
from service.encode.encoders import run_in_parallel


def test_two_functions_run_at_the_same_time() -> None:
    """Each waits for the other, so running them in turn would never end."""
    meet = threading.Barrier(2, timeout=30)
    assert run_in_parallel(lambda: (meet.wait(), "first")[1], lambda: (meet.wait(), "second")[1]) == (
        "first",
        "second",
    )


def test_parallel_functions_share_the_cancellation_token() -> None:
    """So a disconnect cancels the work of both."""
    token = CancellationToken()
    with token.active():
        assert run_in_parallel(current_token, current_token) == (token, token)


def test_an_error_of_either_parallel_function_is_raised() -> None:
    """The other function has ended by then."""
    ended = []

    def fail() -> None:
        raise RuntimeError("broken")

    for first, second in ((fail, lambda: ended.append(1)), (lambda: ended.append(2), fail)):
        with pytest.raises(RuntimeError, match="broken"):
            run_in_parallel(first, second)
    assert ended == [1, 2]
