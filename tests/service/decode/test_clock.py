"""Recordings that follow each other in one file, each with a clock of its own, are one clip."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service.decode import decode_clip
from service.decode.clock import Clock
from service.errors import ClipTooLongError
from service.media import Clip, DecodeLimits, DecodeSpec
from tests.service.decode.conftest import Make

TONES_HZ = (500, 2_000)


def _joined(
    make_clip: Make, clocks_s: tuple[float, float], name: str = "{}.ts", audio_s: float = 2.0
) -> Path:
    """Two recordings of 2 s in a row, which begin at these times of their clocks, with so much sound each."""
    parts = [
        make_clip(
            name=name.format(number),
            video_options={"bf": "2"},
            audio="aac" if name.endswith("flv") else "mp2",
            tone_hz=tone_hz,
            width=width,
            audio_s=audio_s,
            container_options={"output_ts_offset": str(clock_s)},
        )
        for number, (clock_s, tone_hz, width) in enumerate(zip(clocks_s, TONES_HZ, (96, 160), strict=True))
    ]
    joined = parts[0].with_stem("joined")
    header = 13 if name.endswith("flv") else 0
    joined.write_bytes(parts[0].read_bytes() + parts[1].read_bytes()[header:])
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
@pytest.mark.parametrize("name", ["{}.ts", "{}.mpg", "{}.flv"])
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


@dataclass
class Stamped:
    """What a clock knows of a packet, in units of 1/25 s, each a unit long."""

    stream_index: int
    dts: int | None
    pts: int | None = None
    duration: int = 1
    time_base: Fraction = Fraction(1, 25)


def _corrected(*packets: Stamped, name: str = "mpegts") -> list[Any]:
    """Decoding times after their correction."""
    clock: Any = Clock(name)
    for packet in packets:
        clock.correct(packet)
    return [packet.dts for packet in packets]


def test_one_wrong_stamp_moves_nothing_else() -> None:
    """A flipped bit, three seconds ahead, or an hour."""
    for wrong in (75, 90_000):
        found = _corrected(*(Stamped(0, dts) for dts in (0, 1, 2, wrong, 4, 5)))
        assert found[:3] + found[4:] == [0, 1, 2, 4, 5]


@pytest.mark.parametrize("n_lost", [0, 75])
def test_one_wrong_stamp_moves_no_stream_against_another(n_lost: int) -> None:
    """Though the sound lies ahead in the file, and packets were lost with the wrong one."""
    sound = [Stamped(1, dts) for dts in range(60)]
    back = 3 + n_lost
    pictures = [Stamped(0, dts) for dts in (0, 1, 90_000, back, back + 1)]
    later = [Stamped(1, 2_000), Stamped(0, 2_001)]  # far ahead of both, so both have jumped
    found = _corrected(*sound, *pictures, Stamped(1, 60), *later)
    assert found[63:66] == [back, back + 1, 60]
    assert found[67] - found[66] == 1


def test_a_recording_in_flv_may_stand_still() -> None:
    """Its times are right then; only what is far ahead, or goes back, is of another clock."""
    assert _corrected(Stamped(0, 0), Stamped(0, 500), Stamped(0, 501), name="flv") == [0, 500, 501]
    assert _corrected(Stamped(0, 0), Stamped(0, 500), Stamped(0, 501)) == [0, 1, 2]


def test_the_stream_that_lasts_longer_decides_where_the_next_recording_begins() -> None:
    """Else its picture and its sound would never meet again."""
    first = [Stamped(0, dts) for dts in range(50)] + [Stamped(1, dts) for dts in range(100)]
    assert _corrected(*first, Stamped(0, 2_000), Stamped(1, 2_000))[-2:] == [100, 100]


def test_a_stream_may_pause_for_long_while_another_goes_on() -> None:
    """That is no jump, however long it is."""
    pictures = [Stamped(0, dts) for dts in range(1_000)]
    assert _corrected(Stamped(1, 0), *pictures, Stamped(1, 1_000))[-1] == 1_000


def test_packets_without_times_take_their_time() -> None:
    """What is due after them is no jump; what was due long before them is."""
    untimed = [Stamped(0, None) for _ in range(500)]
    assert _corrected(Stamped(0, 0), *untimed, Stamped(0, 501))[-1] == 501
    assert _corrected(Stamped(0, 0), *untimed, Stamped(0, 0))[-1] == 501


def test_a_time_of_showing_that_was_made_up_from_the_next_clock_is_not_believed() -> None:
    """FFmpeg does so for the last frame before a jump; it is shown as long after its decoding as others."""
    last = Stamped(0, 1, pts=50_000)
    _corrected(Stamped(0, 0, pts=2), last)
    assert last.pts == 3


def test_sound_that_is_read_again_has_the_same_clock(make_clip: Make, limits: DecodeLimits) -> None:
    """Though the pictures, by which the clock goes, are not needed any more."""
    path = _joined(make_clip, (0, 100), audio_s=1.0)
    whole = DecodeSpec(1, 32, 16_000, max_audio_s=60.0, segment_s=1.0)
    long = replace(whole, max_audio_s=1.0, n_windows=2, window_s=0.5)
    once, again = (decode_clip(path, spec, limits).full_waveform for spec in (whole, long))
    assert once is not None
    assert again is not None
    np.testing.assert_array_equal(once, again)
