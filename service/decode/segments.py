"""Segments of a clip: where they start and end, and what each has of both tracks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from service.errors import TooManySegmentsError
from service.media import Track

# Codecs pad and smear sound, and a frame is shown for a while: what is meant to end together differs by less.
RAGGED_S = 0.1

# Below -80 dB of full scale nothing is heard: lossy codecs and dither turn digital silence into such values.
_SILENT_PEAK = 1e-4


@dataclass(frozen=True)
class Span:
    """A stretch of time, longer than nothing, in seconds; its end belongs to what comes next."""

    start_s: float
    end_s: float

    def overlap(self, other: Span) -> Span | None:
        """What both have in common."""
        start_s, end_s = max(self.start_s, other.start_s), min(self.end_s, other.end_s)
        return Span(start_s, end_s) if start_s < end_s else None

    def later(self, by_s: float) -> Span:
        """The same stretch, moved."""
        return Span(self.start_s + by_s, self.end_s + by_s)


@dataclass(frozen=True)
class Layout:
    """A clip in time: both tracks on one clock that starts with the earlier of them.

    Attributes:
        picture: From the first frame to the last one's end; None without picture.
        sound: From the first sample to the last; None without sound.
    """

    picture: Span | None
    sound: Span | None

    @classmethod
    def of(cls, picture: Span | None, sound: Span | None) -> Layout:
        """Lay out tracks by their times in the file.

        Tracks that have no time in common have clocks of their own: they are taken to start together.
        """
        if picture is not None and sound is not None and picture.overlap(sound) is None:
            return cls(picture.later(-picture.start_s), sound.later(-sound.start_s))
        start_s = min((track.start_s for track in (picture, sound) if track is not None), default=0.0)
        return cls(
            None if picture is None else picture.later(-start_s),
            None if sound is None else sound.later(-start_s),
        )

    @property
    def duration_s(self) -> float:
        """Where the later track ends."""
        return max((track.end_s for track in (self.picture, self.sound) if track is not None), default=0.0)

    def picture_in(self, segment: Span) -> Span | None:
        """The part of the picture that is in a segment, in seconds since the first frame."""
        return _part(self.picture, segment)

    def sound_in(self, segment: Span, rate_hz: int, n_samples: int) -> tuple[int, int] | None:
        """First sample and one past the last of the sound in a segment; neighbours share no sample."""
        part = _part(self.sound, segment)
        if part is None:
            return None
        first, stop = (min(n_samples, round(at_s * rate_hz)) for at_s in (part.start_s, part.end_s))
        return (first, stop) if first < stop else None


def _part(track: Span | None, segment: Span) -> Span | None:
    """The part of a track that is in a segment, since the track's start; None if it barely touches it."""
    part = None if track is None else track.overlap(segment)
    if track is None or part is None:
        return None
    least_s = min(RAGGED_S, (segment.end_s - segment.start_s) / 2)
    return part.later(-track.start_s) if part.end_s - part.start_s >= least_s else None


def cut(duration_s: float, segment_s: float, max_segments: int) -> list[Span]:
    """Segments at 0, segment_s, 2 segment_s ...; the last one ends where the clip ends.

    A rest shorter than half a segment joins the segment before it, so the last one is from half a segment to
    one and a half long; a clip shorter than that is one segment.

    Args:
        duration_s: Length of the clip, more than 0.
        segment_s: Length of a segment, more than 0.
        max_segments: Most segments.

    Raises:
        TooManySegmentsError: When there would be more; says which length would do.
    """
    n_segments = max(1, math.floor(duration_s / segment_s + 0.5))
    if n_segments > max_segments:
        raise TooManySegmentsError(
            f"Segments of {segment_s:g} seconds are {n_segments} for this clip; at most {max_segments} are "
            f"allowed. Ask for segments of {math.ceil(duration_s / max_segments)} seconds or more."
        )
    starts = [i * segment_s for i in range(n_segments)]
    return [Span(start, end) for start, end in zip(starts, [*starts[1:], duration_s], strict=True)]


SILENT = Track(used=False, reason="silent", detail="digital silence")

_Pictures = npt.NDArray[np.uint8]
_Samples = tuple[int, int]


def pictures_of(
    segments: Sequence[Span], layout: Layout, parts: _Pictures | None, track: Track
) -> list[tuple[_Pictures | None, Track]]:
    """The frames of each segment, or why there are none.

    Args:
        segments: In time order.
        layout: Where the picture is.
        parts: uint8 [n_parts, n, size, size, 3], for the segments that the picture reaches into; None when
            nothing could be decoded.
        track: The picture of the whole clip.
    """
    if parts is None:
        return [(None, track) for _ in segments]
    reached = iter(parts)
    return [
        (None, _absent("picture")) if layout.picture_in(segment) is None else (next(reached), track)
        for segment in segments
    ]


def sounds_of(
    segments: Sequence[Span],
    layout: Layout,
    sound: npt.NDArray[np.float32] | None,
    rate_hz: int,
    track: Track,
) -> list[tuple[_Samples | None, Track]]:
    """First sample and one past the last of each segment, or why it has no (audible) sound.

    Args:
        segments: In time order.
        layout: Where the sound is.
        sound: float32 [n_samples], all of it; None without any.
        rate_hz: Of the sound.
        track: The sound of the clip; that its part which stands for the whole clip is silent doesn't matter.
    """
    if sound is None:
        return [(None, track) for _ in segments]
    found: list[tuple[_Samples | None, Track]] = []
    for segment in segments:
        samples = layout.sound_in(segment, rate_hz, len(sound))
        if samples is None:
            found.append((None, _absent("sound")))
        elif is_silent(_inside(sound, samples, rate_hz)):
            found.append((None, SILENT))
        else:
            found.append((samples, track))
    return found


def _inside(sound: npt.NDArray[np.float32], samples: _Samples, rate_hz: int) -> npt.NDArray[np.float32]:
    """A segment's sound without its very ends, where that of the neighbours may reach into it."""
    first, stop = samples
    margin = min(round(RAGGED_S * rate_hz), (stop - first) // 4)
    return sound[first + margin : stop - margin]


def _absent(what: str) -> Track:
    return Track(used=False, reason="no_samples", detail=f"the {what} starts later or has ended")


def is_silent(waveform: npt.NDArray[np.float32]) -> bool:
    """Whether a waveform never rises above what counts as digital silence."""
    return len(waveform) == 0 or float(np.abs(waveform).max()) <= _SILENT_PEAK
