"""What a project's labelling configuration asks for, and segments as regions on its timeline.

Label Studio counts frames from 1, and both ends of a range belong to it. It does not read frame rates from
videos: seconds and frames are related by `frameRate` of the tag Video, 24 by default, which may name a field
of the task (`$fps`) and below 1 means seconds for each frame.
Source: web/libs/editor/src/tags/object/Video/Video.js in HumanSignal/label-studio 1.23.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

from integrations.spans import Span, spans
from service.client import Segment

_MAX_CHARACTERS = 1_000_000
_DEFAULT_FRAME_RATE = 24.0


class ConfigError(Exception):
    """The labelling configuration has no timeline that could be filled; the text says what it needs."""


@dataclass(frozen=True)
class Timeline:
    """The tag TimelineLabels of a project, and the video that it belongs to.

    Attributes:
        control: Name of the tag TimelineLabels.
        video: Name of the tag Video.
        field: Where a task has the address of its video.
        frame_rate: Frames a second, or $field of the task.
        names: Labels as people read them and the service answers them; what results have in their place.
    """

    control: str
    video: str
    field: str
    frame_rate: str
    names: dict[str, str]

    def frames_per_s(self, data: Mapping[str, Any]) -> float:
        """The frame rate that Label Studio shows a task with."""
        text = self.frame_rate
        sent = data.get(text[1:], "") if text.startswith("$") else text
        try:
            rate = float(sent)
        except (TypeError, ValueError):
            return _DEFAULT_FRAME_RATE
        if not math.isfinite(rate) or rate <= 0:
            return _DEFAULT_FRAME_RATE
        return rate if rate >= 1 else 1 / rate


def read_timeline(config: str) -> Timeline:
    """Read a labelling configuration.

    Args:
        config: XML, as a project has it.

    Raises:
        ConfigError: No TimelineLabels with labels for a Video.
    """
    root = _parse(config)
    videos = {tag.get("name"): tag for tag in root.iter("Video")}
    for control in root.iter("TimelineLabels"):
        video = videos.get(control.get("toName"))
        shown = [(label.get("value", ""), label.get("alias")) for label in control.iter("Label")]
        names = {_canonical(value): alias or value for value, alias in shown if value.strip()}
        if video is None or not names:
            continue
        return Timeline(
            control=control.get("name", ""),
            video=video.get("name", ""),
            field=video.get("value", "").removeprefix("$"),
            frame_rate=video.get("frameRate") or video.get("framerate") or "",
            names=names,
        )
    raise ConfigError(
        "The labelling configuration needs a <TimelineLabels> with at least one <Label>, and a <Video> "
        "that its toName points to."
    )


def _canonical(name: str) -> str:
    """A name as the service answers it: composed characters, single spaces."""
    return " ".join(unicodedata.normalize("NFC", name).split())


def _parse(config: str) -> ElementTree.Element:
    # Entities, which only a document type can declare, could make a small text large.
    if len(config) > _MAX_CHARACTERS or "<!DOCTYPE" in config:
        raise ConfigError("The labelling configuration is too long, or declares a document type.")
    try:
        return ElementTree.fromstring(config)  # noqa: S314  (without a document type)
    except ElementTree.ParseError:
        raise ConfigError("The labelling configuration is not valid XML.") from None


def prediction(
    timeline: Timeline, segments: Sequence[Segment], frames_per_s: float, max_unknown: float
) -> dict[str, Any]:
    """Segments of an answer as a prediction of Label Studio; neighbours of one name are one region.

    Args:
        timeline: Where the regions belong.
        segments: In order.
        frames_per_s: The frame rate of Label Studio.
        max_unknown: Segments whose `unknown` is above this get no region.
    """
    named = list(spans(segments, max_unknown))
    seconds = sum(segment.end_s - segment.start_s for segment in segments)
    score = sum(span.score * span.seconds for span in named) / seconds if seconds else 0.0
    return {
        "result": [_region(timeline, span, frames_per_s) for span in named],
        "score": round(score, 6),
    }


def _region(timeline: Timeline, span: Span, frames_per_s: float) -> dict[str, Any]:
    first, last = span.frames(frames_per_s)
    return {
        "id": f"{timeline.control}-{first}-{last}",
        "from_name": timeline.control,
        "to_name": timeline.video,
        "type": "timelinelabels",
        "origin": "prediction",
        "value": {
            "ranges": [{"start": first, "end": last}],
            "timelinelabels": [timeline.names[span.label]],
        },
        "score": span.score,
    }
