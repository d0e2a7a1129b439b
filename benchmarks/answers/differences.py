"""How answers about one clip differ: their order of names, scores, and what of the clip was used."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

Answer = dict[str, Any]


@dataclass
class Differences:
    """How answers differ from what they are compared with: counts, and the largest differences."""

    n: int = 0
    n_same_order: int = 0
    n_same_first: int = 0
    score: float = 0.0
    frame_times_s: float = 0.0
    sound_s: float = 0.0

    def add(self, found: Answer, expected: Answer) -> None:
        """Count one answer."""
        ours, theirs = _scores(found), _scores(expected)
        order, expected_order = list(ours), list(theirs)
        scores = [ours[name] for name in expected_order]
        times, sound = ((_times(found, what), _times(expected, what)) for what in _USED)
        self.include(
            Differences(
                1,
                order == expected_order,
                order[0] == expected_order[0],
                _apart(scores, list(theirs.values())),
                _apart(*times),
                _apart(*sound),
            )
        )

    def include(self, other: Differences) -> None:
        """Add the counts, and keep the larger differences."""
        self.n += other.n
        self.n_same_order += other.n_same_order
        self.n_same_first += other.n_same_first
        self.score = max(self.score, other.score)
        self.frame_times_s = max(self.frame_times_s, other.frame_times_s)
        self.sound_s = max(self.sound_s, other.sound_s)


_USED: Final = ("frame_times_s", "audio_windows_s")


def _scores(answer: Answer) -> dict[str, float]:
    """Score of each name, best first."""
    return {one["label"]: one["score"] for one in answer["predictions"]}


def _times(answer: Answer, what: str) -> list[float]:
    """Times of the receipt, one after the other."""
    return [float(time) for time in np.ravel(answer["receipt"][what])]


def _apart(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Largest difference of two lists; infinite for lists of other lengths."""
    if len(ours) != len(theirs):
        return float("inf")
    return max((abs(one - other) for one, other in zip(ours, theirs, strict=True)), default=0.0)


_HEAD: Final = (
    "| {} | answers | all names in the same order | same first name | score | frames, s | sound, s |\n"
    "|---|---|---|---|---|---|---|"
)


def table(what: str, rows: Mapping[str, Differences]) -> str:
    """In Markdown: counts, and the largest differences of scores, times of frames and pieces of sound."""
    return "\n".join([_HEAD.format(what), *(_line(name, one) for name, one in rows.items())])


def _line(name: str, one: Differences) -> str:
    return (
        f"| {name} | {one.n} | {one.n_same_order} | {one.n_same_first} | {one.score:.2g} | "
        f"{one.frame_times_s:.2g} | {one.sound_s:.2g} |"
    )
