"""What each segment of a clip has of its picture and of its sound."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from service.decode.audio import is_silent
from service.decode.segments import RAGGED_S, Layout, Span
from service.media import Track

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
