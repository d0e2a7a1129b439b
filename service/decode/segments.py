"""Segments of a clip: where they start and end, and which part of both tracks is in each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from service.arrays import Array
from service.errors import TooManySegmentsError
from service.media import EDGE_TOLERANCE_S, Track

# -80 dB of full scale: inaudible, but above what lossy codecs and dither make of digital silence.
_SILENCE_PEAK = 1e-4


@dataclass(frozen=True)
class Span:
    """A half-open interval of time, in seconds, with start_s < end_s."""

    start_s: float
    end_s: float

    def overlap(self, other: Span) -> Span | None:
        """The intersection of both spans; None if it is empty."""
        start_s, end_s = max(self.start_s, other.start_s), min(self.end_s, other.end_s)
        return Span(start_s, end_s) if start_s < end_s else None

    def shifted(self, by_s: float) -> Span:
        """The span moved by a time."""
        return Span(self.start_s + by_s, self.end_s + by_s)


@dataclass(frozen=True)
class Layout:
    """The tracks of a clip on a common clock that starts with the earlier track.

    Attributes:
        visual: From the start of the first frame to the end of the last; None without a visual track.
        audio: From the first sample to the last; None without an audio track.
    """

    visual: Span | None
    audio: Span | None

    @classmethod
    def of(cls, visual: Span | None, audio: Span | None) -> Layout:
        """Lay out tracks by their times in the file.

        Tracks that do not overlap in time evidently use different clocks: they are taken to start together.
        """
        if visual is not None and audio is not None and visual.overlap(audio) is None:
            return cls(visual.shifted(-visual.start_s), audio.shifted(-audio.start_s))
        start_s = min((track.start_s for track in (visual, audio) if track is not None), default=0.0)
        return cls(
            None if visual is None else visual.shifted(-start_s),
            None if audio is None else audio.shifted(-start_s),
        )

    @property
    def duration_s(self) -> float:
        """End of the track that ends later."""
        return max((track.end_s for track in (self.visual, self.audio) if track is not None), default=0.0)

    def visual_in(self, segment: Span) -> Span | None:
        """The part of the visual track that is in a segment, in seconds since the first frame."""
        return _part(self.visual, segment)

    def audio_samples_in(self, segment: Span, rate_hz: int, n_samples: int) -> tuple[int, int] | None:
        """Range [first, stop) of the audio samples in a segment; None if there are none.

        Args:
            segment: The segment, on the clock of the clip.
            rate_hz: Sample rate.
            n_samples: Number of samples of the audio track.
        """
        part = _part(self.audio, segment)
        if part is None:
            return None
        # Both ends are rounded alike, so neighbouring segments share no sample and leave none out.
        first, stop = (min(n_samples, round(at_s * rate_hz)) for at_s in (part.start_s, part.end_s))
        return (first, stop) if first < stop else None


def _part(track: Span | None, segment: Span) -> Span | None:
    """The part of a track that is in a segment, in time since the start of the track; None if negligible."""
    part = None if track is None else track.overlap(segment)
    if track is None or part is None:
        return None
    min_s = min(EDGE_TOLERANCE_S, (segment.end_s - segment.start_s) / 2)
    return part.shifted(-track.start_s) if part.end_s - part.start_s >= min_s else None


def cut(duration_s: float, segment_s: float, max_segments: int) -> list[Span]:
    """Segments at 0, segment_s, 2 segment_s ...; the last one ends with the clip.

    A remainder shorter than half a segment is joined to the segment before it, so the last segment is between
    half and one and a half times as long as the others. A shorter clip is one segment.

    Args:
        duration_s: Length of the clip, > 0.
        segment_s: Length of a segment, > 0.
        max_segments: Maximum number of segments.

    Raises:
        TooManySegmentsError: There would be more segments; the message names a length that is allowed.
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

_Frames = npt.NDArray[np.uint8]
_Times = npt.NDArray[np.float64]
_SampleRange = tuple[int, int]
_NO_TIMES = np.empty(0)


def frames_of_segments(
    segments: Sequence[Span], layout: Layout, parts: _Frames | None, times_s: _Times, track: Track
) -> list[tuple[_Frames | None, _Times, Track]]:
    """The frames of each segment, or None, with their times and a report on its visual track.

    Args:
        segments: The segments in time order.
        layout: The layout that `parts` was decoded with.
        parts: Frames of those segments that have a part of the visual track, in the same order, uint8
            [n_parts, n_segment_frames, size, size, 3]; None when nothing could be decoded.
        times_s: When these frames are shown, float64 [n_parts, n_segment_frames].
        track: Report on the visual track of the whole clip.
    """
    if parts is None:
        return [(None, _NO_TIMES, track) for _ in segments]
    remaining = zip(parts, times_s, strict=True)
    return [
        (None, _NO_TIMES, _absent("picture"))
        if layout.visual_in(segment) is None
        else (*next(remaining), track)
        for segment in segments
    ]


def audio_of_segments(
    segments: Sequence[Span], layout: Layout, waveform: Array | None, rate_hz: int, track: Track
) -> list[tuple[_SampleRange | None, Track]]:
    """The range of audio samples of each segment, or None, with a report on its audio track.

    Args:
        segments: The segments in time order.
        layout: The layout of the clip.
        waveform: The audio of the whole clip, float32 [n_samples]; None without any.
        rate_hz: Sample rate of the waveform.
        track: Report on the audio track of the whole clip.
    """
    if waveform is None:
        return [(None, track) for _ in segments]
    found: list[tuple[_SampleRange | None, Track]] = []
    for segment in segments:
        samples = layout.audio_samples_in(segment, rate_hz, len(waveform))
        if samples is None:
            found.append((None, _absent("sound")))
        elif is_silent(_core(waveform, samples, rate_hz)):
            found.append((None, SILENT))
        else:
            found.append((samples, track))
    return found


def _core(waveform: Array, samples: _SampleRange, rate_hz: int) -> Array:
    """The audio of a segment without its edges, into which codecs smear audio of its neighbours."""
    first, stop = samples
    margin = min(round(EDGE_TOLERANCE_S * rate_hz), (stop - first) // 4)
    return waveform[first + margin : stop - margin]


def _absent(what: str) -> Track:
    return Track(used=False, reason="no_samples", detail=f"the {what} starts later or has ended")


def is_silent(waveform: Array) -> bool:
    """Whether a waveform is empty or never exceeds the level of digital silence."""
    # Of an hour of sound, its absolute values would take its memory again.
    return len(waveform) == 0 or float(max(waveform.max(), -waveform.min())) <= _SILENCE_PEAK
