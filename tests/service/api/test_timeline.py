"""Timelines as text: clocks, and names that would be markup, formulas or ends of a cue."""

from __future__ import annotations

import csv
import io
from typing import Any

import pytest

from service.api.schemas import (
    ClassifyResponse,
    Prediction,
    Receipt,
    SegmentAnswer,
    SegmentReceipt,
    Tracks,
    TrackUse,
)
from service.api.timeline import TIMELINES
from service.client import Answer

USED = Tracks(
    agreement=None,
    visual=TrackUse(used=True, reason=None, detail=""),
    audio=TrackUse(used=True, reason=None, detail=""),
)


def _answer(*segments: tuple[float, float, str | None], notice: str | None = None) -> ClassifyResponse:
    return ClassifyResponse(
        id="1",
        bundle="toy",
        bundle_version="2",
        bundle_notice=notice,
        label_set=None,
        n_labels=2,
        predictions=[],
        tracks=USED,
        unknown=None,
        guarantee=None,
        receipt=Receipt(clip_sha256="ab", frame_times_s=[0.5], audio_windows_s=[(0.0, 2.0)]),
        duration_s=9,
        calibration=0,
        segments=[_segment(*one) for one in segments],
        warnings=[],
        timings_ms={},
    )


def _segment(start_s: float, end_s: float, label: str | None) -> SegmentAnswer:
    best: dict[str, Any] = {
        "rank": 1,
        "score": 0.875,
        "distance": 1,
        "seen": False,
        "visual": None,
        "audio": None,
    }
    predictions = [] if label is None else [Prediction(label=label, **best)]
    return SegmentAnswer(
        start_s=start_s,
        end_s=end_s,
        predictions=predictions,
        tracks=USED,
        unknown=0.25,
        receipt=SegmentReceipt(frame_times_s=[start_s], audio_windows_s=[(start_s, end_s)]),
    )


def test_subrip() -> None:
    """Numbered, with commas before the milliseconds; a segment with nothing to rank by has no block."""
    text = TIMELINES["srt"].write(
        _answer((0, 1.5, "dog"), (1.5, 2, None), (3599.9996, 3661.25, "a {b} <i> --> c"))
    )
    assert text == (
        "1\n00:00:00,000 --> 00:00:01,500\ndog (88%)\n\n"
        "2\n01:00:00,000 --> 01:01:01,250\na (b) \u2039i\u203a --\u203a c (88%)\n"
    )


def test_webvtt() -> None:
    """What must be known of the bundle comes first; signs of markup are entities."""
    text = TIMELINES["vtt"].write(_answer((0, 1, "R&B <b> --> x"), notice="Few --> names."))
    assert text == (
        "WEBVTT\n\nNOTE toy 2. Few --&gt; names.\n\n"
        "00:00:00.000 --> 00:00:01.000\nR&amp;B &lt;b&gt; --&gt; x (88%)\n"
    )


def test_csv() -> None:
    """A row for each segment, also for one that nothing can be said of."""
    text = TIMELINES["csv"].write(_answer((0, 1.5, 'dog, "big"'), (1.5, 2, None)))
    assert (
        text == 'start_s,end_s,label,score,unknown\r\n0.0,1.5,"dog, ""big""",0.875,0.25\r\n1.5,2.0,,,0.25\r\n'
    )


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@SUM(A1)", "\uff1d1", '=cmd|"/c calc"!A1'])
def test_no_name_is_a_formula_in_a_spreadsheet(name: str) -> None:
    """Nor is one with signs of double width."""
    rows = list(csv.reader(io.StringIO(TIMELINES["csv"].write(_answer((0, 1, name))))))
    assert rows[1][2] == f"'{name}"


@pytest.mark.parametrize("form", TIMELINES)
def test_an_answer_that_a_client_has_read_gives_the_same(form: str) -> None:
    """Also that of a service of another version, which lacks a field or has one more."""
    answer = _answer((0, 1.5, "dog"), (1.5, 2, None), notice="a notice")
    document = answer.model_dump(mode="json")
    del document["receipt"]
    document["tracks"]["visual"]["codec"] = "h264"
    assert TIMELINES[form].write(Answer.read(document)) == TIMELINES[form].write(answer)
