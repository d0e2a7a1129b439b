"""An answer as text for people."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from service.client import Answer, Guarantee, Segment

# Names on a line of the timeline; more would not be read.
_MAX_TIMELINE_NAMES = 3
# From here on it is more likely than not that no name fits.
_LIKELY_UNKNOWN = 0.5


def printable(text: str) -> str:
    """A line without control characters: names of files and errors of a service may not steer a terminal."""
    return "".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in text)


def json_line(document: Mapping[str, Any]) -> str:
    """A line of JSON whose control characters are all escaped: JSON itself asks that of the first 32 only."""
    text = json.dumps(document, ensure_ascii=False)
    return re.sub("[\x7f-\x9f]", lambda found: f"\\u{ord(found[0]):04x}", text)


def as_text(name: str, answer: Answer) -> str:
    """The ranking, the timeline if there are segments, and notes.

    Args:
        name: Of the clip.
        answer: Its answer.
    """
    lines = [name, *(f"  {one.score:7.2%}  {one.label}" for one in answer.predictions)]
    if answer.unknown is not None and answer.unknown >= _LIKELY_UNKNOWN:
        lines.append(f"  perhaps none of these (unknown {answer.unknown:.0%})")
    if answer.guarantee is not None:
        lines.append(f"  {_kept(answer.guarantee)}")
    if answer.segments:
        lines.append(f"  {'start':>7} {'end s':>7}  best names")
        lines += [f"  {one.start_s:7.1f} {one.end_s:7.1f}  {_names(one)}" for one in answer.segments]
    notice = [answer.bundle_notice] if answer.bundle_notice else []
    if answer.guarantee is not None:
        notice.append(f"{answer.guarantee.level:.0%} holds for {answer.guarantee.holds_for}")
    lines += [f"  note: {text}" for text in (*notice, *answer.warnings)]
    return "\n".join(map(printable, lines))


def _kept(guarantee: Guarantee) -> str:
    if guarantee.labels is None:
        return f"{guarantee.level:.0%}: none of these may be excluded"
    return f"{guarantee.level:.0%}: one of {', '.join(guarantee.labels)}"


def _names(segment: Segment) -> str:
    visual, audio = segment.tracks.visual, segment.tracks.audio
    if not segment.predictions:
        return f"nothing to rank by (picture: {visual.detail}; sound: {audio.detail})"
    names = "   ".join(f"{one.score:7.2%} {one.label}" for one in segment.predictions[:_MAX_TIMELINE_NAMES])
    if visual.used and audio.used:
        return names
    return names + ("   (sound alone)" if audio.used else "   (picture alone)")
