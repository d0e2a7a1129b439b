"""Two encoders at once, and one on an even number of rows."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from service.arrays import Array
from service.cancellation import CancellationToken, current_token
from service.encode.encoders import EvenRows, run_in_parallel


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


class Doubling:
    """An encoder that doubles, and notes how many rows it was given."""

    provider = "here"

    def __init__(self) -> None:
        self.n_rows: list[int] = []

    def __call__(self, **inputs: NDArray[Any]) -> Array:
        """Double."""
        self.n_rows.append(len(inputs["tokens"]))
        return 2 * inputs["tokens"].astype(np.float32)


def test_the_last_of_an_odd_number_of_rows_has_another_beside_it() -> None:
    """Which is not in the result."""
    inner = Doubling()
    encoder = EvenRows(inner)
    for n_rows in (1, 2, 5):
        tokens = np.arange(3 * n_rows).reshape(n_rows, 3)
        np.testing.assert_array_equal(encoder(tokens=tokens), 2 * tokens)
    assert inner.n_rows == [2, 2, 6]
    assert encoder.provider == "here"
