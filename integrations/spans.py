"""Segments of an answer as stretches of one name each, in seconds and in frames."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from service.client import Segment


@dataclass(frozen=True)
class Span:
    """Neighbouring segments with the same best name.

    Attributes:
        label: The name.
        start_s: Since the clip's start.
        end_s: Not in it any more.
        score: Mean of the segments' scores, weighted by their time.
    """

    label: str
    start_s: float
    end_s: float
    score: float

    @property
    def seconds(self) -> float:
        """Its length."""
        return self.end_s - self.start_s

    def frames(self, per_s: float) -> tuple[int, int]:
        """First and last frame, counted from 1; neighbouring spans share none unless one is very short.

        Args:
            per_s: Frames in each second.
        """
        first = round(self.start_s * per_s) + 1
        return first, max(first, round(self.end_s * per_s))


def spans(segments: Sequence[Segment], max_unknown: float) -> Iterator[Span]:
    """The stretches that have a name.

    Args:
        segments: Of an answer, in order.
        max_unknown: Segments whose `unknown` is above this have none, nor those without picture and sound.
    """
    for label, same in groupby(segments, lambda segment: _best(segment, max_unknown)):
        if label is not None:
            run = list(same)
            seconds = run[-1].end_s - run[0].start_s
            weighted = sum(one.predictions[0].score * (one.end_s - one.start_s) for one in run)
            yield Span(label, run[0].start_s, run[-1].end_s, round(weighted / seconds, 6))


def _best(segment: Segment, max_unknown: float) -> str | None:
    if not segment.predictions or (segment.unknown or 0.0) > max_unknown:
        return None
    return segment.predictions[0].label
