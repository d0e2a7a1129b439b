"""The segments of a clip as a table for the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from service.classifier import Classification, Ranked
    from service.labels.label import Label
    from service.media import Segment

_MAX_NAMES = 3


def timeline_lines(result: Classification, top_k: int) -> list[str]:
    """One line a segment under a heading, nothing when no segments were asked for.

    Args:
        result: the classification.
        top_k: names a line; more than 3 would not be read.
    """
    if not result.clip.segments:
        return []
    labels, n_names = result.labels.labels, min(top_k, _MAX_NAMES)
    rows = [
        f"  {segment.start_s:7.1f} {segment.end_s:7.1f}  {_told(segment, ranked, labels, n_names)}"
        for segment, ranked in zip(result.clip.segments, result.segments, strict=True)
    ]
    return [f"  {'start':>7} {'end s':>7}  best names", *rows]


def _told(segment: Segment, ranked: Ranked | None, labels: tuple[Label, ...], n_names: int) -> str:
    if ranked is None:
        return f"nothing to rank by (picture: {segment.visual.detail}; sound: {segment.audio.detail})"
    order, score = ranked.ranking.best(n_names).tolist(), ranked.ranking.score
    names = "   ".join(f"{score[i]:7.2%} {labels[i].name}" for i in order)
    return names + _lacking(segment)


def _lacking(segment: Segment) -> str:
    if segment.visual.used and segment.audio.used:
        return ""
    return "   (sound alone)" if segment.audio.used else "   (picture alone)"
