"""Whose clip is next, where several owners have jobs."""

from __future__ import annotations

from collections.abc import Iterable


class Turns:
    """Owners in a line: who had a turn goes to its end (round robin).

    Held in memory by the one process that works on the jobs, so that a turn costs nothing to keep; after a
    restart the line begins anew, the oldest job first.
    """

    def __init__(self) -> None:
        self._line: list[str] = []

    def line(self, owners: Iterable[str]) -> list[str]:
        """Who is next, in order.

        Owners that were not in line stand behind the others; those with nothing to do any more lose their
        place, so that nobody gains one by deleting a job and sending it again.

        Args:
            owners: Those that have something to do, each once, the oldest job first.
        """
        waiting = dict.fromkeys(owners)
        known = set(self._line)
        self._line = [one for one in self._line if one in waiting]
        self._line += [one for one in waiting if one not in known]
        return list(self._line)

    def took(self, owner: str) -> None:
        """Know that an owner of the line had its turn."""
        self._line.remove(owner)
        self._line.append(owner)
