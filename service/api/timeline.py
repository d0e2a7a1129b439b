"""The timeline of an answer as text: SubRip, WebVTT, CSV, with the best name of each segment."""

from __future__ import annotations

import csv
import html
import io
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from service.errors import InvalidOptionError

if TYPE_CHECKING:
    from service.api.schemas import ClassifyResponse, SegmentAnswer
    from service.client import Answer, Segment


@dataclass(frozen=True)
class TimelineFormat:
    """One form of a timeline.

    Attributes:
        media_type: For the header Content-Type.
        write: The text of an answer, of the service or as a client has read it.
    """

    media_type: str
    write: Callable[[ClassifyResponse | Answer], str]


def _write_srt(answer: ClassifyResponse | Answer) -> str:
    """SubRip, which has no standard: numbered blocks, each with its times and a line of text."""
    return "\n".join(
        f"{number}\n{_times(one, ',')}\n{_cue(one).translate(_NO_MARKUP)}\n"
        for number, one in enumerate(_with_names(answer), start=1)
    )


# Players read tags and overrides in SubRip, which has no way to write these signs otherwise.
_NO_MARKUP = str.maketrans(
    "<>{}", "\N{SINGLE LEFT-POINTING ANGLE QUOTATION MARK}\N{SINGLE RIGHT-POINTING ANGLE QUOTATION MARK}()"
)


def _write_vtt(answer: ClassifyResponse | Answer) -> str:
    """WebVTT (https://www.w3.org/TR/webvtt1/): all that a reader must know first, then the cues."""
    about = f"{answer.bundle} {answer.bundle_version}. {answer.bundle_notice or ''}"
    blocks = [f"{_times(one, '.')}\n{_escaped(_cue(one))}\n" for one in _with_names(answer)]
    return "\n".join(["WEBVTT\n", f"NOTE {_escaped(about).strip()}\n", *blocks])


def _escaped(text: str) -> str:
    # An arrow ends a block, and `<` and `&` begin tags and entities.
    return html.escape(text, quote=False)


def _write_csv(answer: ClassifyResponse | Answer) -> str:
    """A row for each segment (RFC 4180), also for one without picture and sound, whose label is empty."""
    out = io.StringIO()
    table = csv.writer(out)
    table.writerow(("start_s", "end_s", "label", "score", "unknown"))
    for one in _segments(answer):
        best = one.predictions[0] if one.predictions else None
        name, score = ("", None) if best is None else (as_cell(best.label), best.score)
        table.writerow((one.start_s, one.end_s, name, score, one.unknown))
    return out.getvalue()


def as_cell(text: str) -> str:
    """A text that no spreadsheet takes for a formula (https://owasp.org/www-community/attacks/CSV_Injection).

    Signs of double width count too, which some spreadsheets read like plain ones.
    """
    first = unicodedata.normalize("NFKC", text[:1])
    return f"'{text}" if first in ("=", "+", "-", "@") else text


TIMELINES: Mapping[str, TimelineFormat] = MappingProxyType(
    {
        "srt": TimelineFormat("application/x-subrip", _write_srt),
        "vtt": TimelineFormat("text/vtt", _write_vtt),
        "csv": TimelineFormat("text/csv", _write_csv),
    }
)
"""By the value of the field `return`."""


def _segments(answer: ClassifyResponse | Answer) -> Sequence[SegmentAnswer | Segment]:
    if answer.segments is None:
        raise InvalidOptionError("A still image has no timeline; send return=json.")
    return answer.segments


def _with_names(answer: ClassifyResponse | Answer) -> Iterator[SegmentAnswer | Segment]:
    """The segments that have anything to rank by."""
    return (one for one in _segments(answer) if one.predictions)


def _cue(segment: SegmentAnswer | Segment) -> str:
    """The best name with its score. A name has no line breaks (labels/label.py)."""
    best = segment.predictions[0]
    return f"{best.label} ({best.score:.0%})"


def _times(segment: SegmentAnswer | Segment, decimal_mark: str) -> str:
    return f"{_clock(segment.start_s, decimal_mark)} --> {_clock(segment.end_s, decimal_mark)}"


def _clock(seconds: float, decimal_mark: str) -> str:
    """Hours, minutes, seconds, milliseconds: 01:02:03.456."""
    ms = round(seconds * 1000)
    return f"{ms // 3_600_000:02}:{ms // 60_000 % 60:02}:{ms // 1000 % 60:02}{decimal_mark}{ms % 1000:03}"
