"""An answer as text for people, and as subtitles."""

from __future__ import annotations

import html
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from service.client import Answer, Segment

# Names on a line of the timeline; more would not be read.
_MAX_TIMELINE_NAMES = 3
# From here on it is more likely than not that no name fits.
_LIKELY_UNKNOWN = 0.5


def as_text(name: str, answer: Answer) -> str:
    """The ranking, the timeline if there are segments, and notes.

    Args:
        name: Of the clip.
        answer: Its answer.
    """
    lines = [name, *(f"  {one.score:7.2%}  {one.label}" for one in answer.predictions)]
    if answer.unknown is not None and answer.unknown >= _LIKELY_UNKNOWN:
        lines.append(f"  perhaps none of these (unknown {answer.unknown:.0%})")
    if answer.segments:
        lines.append(f"  {'start':>7} {'end s':>7}  best names")
        lines += [f"  {one.start_s:7.1f} {one.end_s:7.1f}  {_names(one)}" for one in answer.segments]
    notice = [answer.bundle_notice] if answer.bundle_notice else []
    lines += [f"  note: {text}" for text in (*notice, *answer.warnings)]
    return "\n".join(lines)


def _names(segment: Segment) -> str:
    visual, audio = segment.tracks.visual, segment.tracks.audio
    if not segment.predictions:
        return f"nothing to rank by (picture: {visual.detail}; sound: {audio.detail})"
    names = "   ".join(f"{one.score:7.2%} {one.label}" for one in segment.predictions[:_MAX_TIMELINE_NAMES])
    if visual.used and audio.used:
        return names
    return names + ("   (sound alone)" if audio.used else "   (picture alone)")


def as_srt(answer: Answer) -> str:
    """SubRip: the best name of each segment."""
    blocks = (
        f"{number}\n{_times(one, ',')}\n{_cue(one)}\n" for number, one in enumerate(_named(answer), start=1)
    )
    return "\n".join(blocks)


def as_vtt(answer: Answer) -> str:
    """WebVTT (https://www.w3.org/TR/webvtt1/): the best name of each segment."""
    about = html.escape(f"{answer.bundle} {answer.bundle_version}. {answer.bundle_notice or ''}", quote=False)
    cues = (f"{_times(one, '.')}\n{html.escape(_cue(one), quote=False)}\n" for one in _named(answer))
    return "\n".join(["WEBVTT\n", f"NOTE {about.strip()}\n", *cues])


def _named(answer: Answer) -> Iterator[Segment]:
    return (one for one in answer.segments or () if one.predictions)


def _cue(segment: Segment) -> str:
    best = segment.predictions[0]
    return f"{best.label} ({best.score:.0%})"


def _times(segment: Segment, mark: str) -> str:
    return f"{_clock(segment.start_s, mark)} --> {_clock(segment.end_s, mark)}"


def _clock(seconds: float, mark: str) -> str:
    ms = round(seconds * 1000)
    return f"{ms // 3_600_000:02}:{ms // 60_000 % 60:02}:{ms // 1000 % 60:02}{mark}{ms % 1000:03}"
