"""How many bytes of requests and answers are held in memory at once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from service.errors import OverloadedError

# What each request may hold without counting: places and connections bound the sum, and ordinary requests go
# on where large bodies have taken the whole budget.
SMALL_BYTES = 64 * 2**10


class ByteBudget:
    """Bytes that requests hold in memory together. Used on the event loop, and by it only.

    Args:
        capacity: Maximum number of bytes.

    Attributes:
        capacity: Maximum number of bytes.
        n_stored: Bytes that count too, although no request holds them.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._n_taken = 0
        self.n_stored = 0

    @property
    def n_free(self) -> int:
        """Bytes that can still be taken."""
        return self.capacity - self._n_taken - self.n_stored

    def take(self, n_bytes: int) -> None:
        """Take so many bytes.

        Raises:
            OverloadedError: Others hold too much; nothing is taken.
        """
        if n_bytes > self.n_free:
            raise OverloadedError("The service holds as much data of requests as it can; try again later.")
        self._n_taken += n_bytes

    def give_back(self, n_bytes: int) -> None:
        """Give back what was taken."""
        self._n_taken -= n_bytes

    @contextmanager
    def share(self) -> Iterator[ByteShare]:
        """A share that grows inside the `with` block and is given back at its end."""
        share = ByteShare(self)
        try:
            yield share
        finally:
            self.give_back(share.n_bytes)


class ByteShare:
    """What one request has taken of a budget, whose end it does not know before.

    Args:
        budget: The budget.

    Attributes:
        n_bytes: Bytes taken so far.
    """

    def __init__(self, budget: ByteBudget) -> None:
        self._budget = budget
        self.n_bytes = 0

    @property
    def capacity(self) -> int:
        """Maximum number of bytes of the whole budget."""
        return self._budget.capacity

    def grow_to(self, n_bytes: int) -> None:
        """Take more for a request that holds so many bytes.

        Raises:
            OverloadedError: Others hold too much.
        """
        n_counted = max(0, n_bytes - SMALL_BYTES)
        self._budget.take(n_counted - self.n_bytes)
        self.n_bytes = n_counted
