"""Recordings that follow each other in one file, each with a clock of its own, are one clip."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from service.decode import decode_clip
from service.errors import ClipTooLongError
from service.media import Clip, DecodeLimits, DecodeSpec
from tests.service.decode.conftest import Make

TONES_HZ = (500, 2_000)


def _joined(make_clip: Make, clocks_s: tuple[float, float], name: str = "{}.ts") -> Path:
    """Two recordings of 2 s in a row, which begin at these times of their clocks."""
    parts = [
        make_clip(
            name=name.format(number),
            video_options={"bf": "2"},
            audio="mp2",
            tone_hz=tone_hz,
            width=width,
            container_options={"output_ts_offset": str(clock_s)},
        )
        for number, (clock_s, tone_hz, width) in enumerate(zip(clocks_s, TONES_HZ, (96, 160), strict=True))
    ]
    joined = parts[0].with_stem("joined")
    joined.write_bytes(b"".join(part.read_bytes() for part in parts))
    return joined


def _loudest_hz(clip: Clip) -> list[float]:
    """Of the sound of each segment."""
    assert clip.full_waveform is not None
    found = list[float]()
    for segment in clip.segments:
        assert segment.audio_samples is not None
        samples = clip.full_waveform[slice(*segment.audio_samples)]
        found.append(np.argmax(np.abs(np.fft.rfft(samples))) * 16_000 / len(samples))
    return found


@pytest.mark.parametrize("clocks_s", [(0, 2), (0, 0), (0, 1000), (100, 50), (1000, 0)])
@pytest.mark.parametrize("name", ["{}.ts", "{}.mpg"])
def test_both_recordings_are_seen_and_heard(
    name: str, clocks_s: tuple[float, float], make_clip: Make, spec: DecodeSpec, limits: DecodeLimits
) -> None:
    """Where the second clock goes on, begins anew, or is far ahead or behind."""
    path = _joined(make_clip, clocks_s, name)
    clip = decode_clip(path, replace(spec, segment_s=2.0), limits)
    assert clip.duration_s == pytest.approx(4, abs=0.15)
    np.testing.assert_allclose(clip.frame_times_s, np.arange(8) / 2 + 0.25, atol=0.1)
    # The second one is wider, so its centre lacks the bright corner.
    assert clip.frames is not None
    assert [bool(frame[2, 2].mean() > 200) for frame in clip.frames] == [True] * 4 + [False] * 4
    assert _loudest_hz(clip) == pytest.approx(TONES_HZ, rel=0.01)
    assert clip.warnings == ()


def test_recordings_together_are_as_long_as_they_are(
    make_clip: Make, spec: DecodeSpec, limits: DecodeLimits
) -> None:
    """The limit on the length is for both, whatever their clocks say."""
    path = _joined(make_clip, (0, 1))
    assert decode_clip(path, spec, replace(limits, max_duration_s=4.5)).duration_s > 3.9
    with pytest.raises(ClipTooLongError):
        decode_clip(path, spec, replace(limits, max_duration_s=3.5))
