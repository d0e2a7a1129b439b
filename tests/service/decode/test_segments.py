"""Where segments lie, and what a segment has of its picture and its sound."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.decode import DecodePool, decode_clip
from service.decode.segments import Layout, Span, cut
from service.errors import ClipTooLargeError, InvalidOptionError, TooManySegmentsError
from service.media import Clip, DecodeLimits, DecodeSpec
from service.options import ClassifyOptions, read_options
from tests.service.decode.conftest import Make

DURATIONS = st.floats(0.001, 5_000)
LENGTHS = st.floats(0.05, 600)


@given(DURATIONS, LENGTHS)
def test_segments_cover_the_clip_without_gaps(duration_s: float, segment_s: float) -> None:
    """All have the requested length except the last, which has 0.5 to 1.5 times that."""
    spans = cut(duration_s, segment_s, max_segments=10**9) if duration_s / segment_s < 2_000 else []
    if not spans:
        return
    assert (spans[0].start_s, spans[-1].end_s) == (0, duration_s)
    assert all(before.end_s == after.start_s for before, after in pairwise(spans))
    assert [span.start_s for span in spans] == [i * segment_s for i in range(len(spans))]
    last_s = spans[-1].end_s - spans[-1].start_s
    assert last_s < 1.5 * segment_s * (1 + 1e-9)
    assert len(spans) == 1 or last_s >= 0.5 * segment_s * (1 - 1e-9)


@pytest.mark.parametrize(
    ("duration_s", "ends"),
    [(30.0, [10, 20, 30]), (34.9, [10, 20, 34.9]), (35.0, [10, 20, 30, 35]), (4.0, [4]), (14.0, [14])],
)
def test_a_short_remainder_joins_the_last_segment(duration_s: float, ends: list[float]) -> None:
    """A remainder of half a segment becomes a segment."""
    assert [span.end_s for span in cut(duration_s, 10.0, 120)] == ends


@given(st.floats(1, 5_000), st.floats(0.1, 600), st.integers(1, 200))
def test_too_many_segments_are_refused_with_a_length_that_is_allowed(
    duration_s: float, segment_s: float, most: int
) -> None:
    """The length that the message names is accepted."""
    try:
        assert len(cut(duration_s, segment_s, most)) <= most
    except TooManySegmentsError as error:
        assert duration_s / segment_s > most
        named_s = float(error.message.split("Ask for segments of ")[1].split()[0])
        assert len(cut(duration_s, named_s, most)) <= most


@st.composite
def layouts(draw: st.DrawFn) -> Layout:
    """Tracks with any starts and lengths, at least one of them."""
    starts = st.floats(-1_000, 1_000)
    spans = [
        None if draw(st.booleans()) else Span(start_s := draw(starts), start_s + draw(st.floats(0.01, 300)))
        for _ in range(2)
    ]
    if spans == [None, None]:
        spans[0] = Span(0.0, 1.0)
    return Layout.of(*spans)


@given(layouts(), st.floats(1, 60))
def test_segments_share_both_tracks_without_overlap(layout: Layout, segment_s: float) -> None:
    """Parts of each track follow each other; only negligible parts at the ends are left out."""
    starts = [track.start_s for track in (layout.visual, layout.audio) if track is not None]
    assert min(starts) == 0
    spans = cut(layout.duration_s, segment_s, 10_000)
    if layout.audio is not None:
        n_samples = round((layout.audio.end_s - layout.audio.start_s) * 100)
        ranges = [r for span in spans if (r := layout.audio_samples_in(span, 100, n_samples)) is not None]
        assert all(before[1] == after[0] for before, after in pairwise(ranges))
        assert sum(stop - first for first, stop in ranges) >= n_samples - 2 * 11
        assert all(0 <= first < stop <= n_samples for first, stop in ranges)
    if layout.visual is not None:
        parts = [part for span in spans if (part := layout.visual_in(span)) is not None]
        length_s = layout.visual.end_s - layout.visual.start_s
        assert sum(part.end_s - part.start_s for part in parts) == pytest.approx(length_s, abs=0.21)
        assert all(-1e-9 <= part.start_s < part.end_s <= length_s + 1e-9 for part in parts)


def test_tracks_keep_their_offset_unless_they_do_not_overlap() -> None:
    """Audio that starts a second late stays late; audio from another day is moved to the start."""
    late = Layout.of(Span(5, 15), Span(6, 16))
    assert (late.visual, late.audio, late.duration_s) == (Span(0, 10), Span(1, 11), 11)
    assert late.audio_samples_in(Span(0, 5), 10, 100) == (0, 40)
    assert late.visual_in(Span(10, 11)) is None
    other = Layout.of(Span(5, 15), Span(86_400, 86_412))
    assert (other.visual, other.audio, other.duration_s) == (Span(0, 10), Span(0, 12), 12)


@pytest.mark.parametrize(
    ("text", "length"), [("auto", "auto"), ("1", 1.0), ("600", 600.0), ("2.5", 2.5), ("010", 10.0)]
)
def test_valid_segment_lengths_are_read(text: str, length: object) -> None:
    """`auto` or seconds."""
    assert read_options({"segment_s": text}, ClassifyOptions).segment_s == length


@pytest.mark.parametrize("text", ["", "0", "0.9", "600.1", "-5", "1e2", "nan", "inf", "AUTO", "\u0663", "5s"])
def test_invalid_segment_lengths_are_refused(text: str) -> None:
    """The message names the field and the range."""
    with pytest.raises(InvalidOptionError, match=r"segment_s must be auto, or a number .* from 1 to 600"):
        read_options({"segment_s": text}, ClassifyOptions)


def test_segments_do_not_change_the_whole_clip(
    make_clip: Make, spec: DecodeSpec, limits: DecodeLimits
) -> None:
    """Frames and samples are equal for every segment length, also when the audio is cut."""
    path = make_clip(ticks=range(300), gop=250, audio="aac", audio_s=10.0)
    spec = replace(spec, max_audio_s=3.0)
    plain = decode_clip(path, spec, limits)
    assert plain.segments == ()
    assert plain.full_waveform is None
    for segment_s in (0.5, 2.0, 60.0):
        clip = decode_clip(path, replace(spec, segment_s=segment_s), limits)
        np.testing.assert_array_equal(clip.frames, plain.frames)
        np.testing.assert_array_equal(clip.waveform, plain.waveform)
        assert (clip.duration_s, clip.visual, clip.audio) == (plain.duration_s, plain.visual, plain.audio)
        assert [warning.split("were used")[0] for warning in clip.warnings] == [
            warning.split("were used")[0] for warning in plain.warnings
        ]


def test_a_segment_has_frames_and_samples_of_its_own(
    make_clip: Make, spec: DecodeSpec, limits: DecodeLimits
) -> None:
    """They equal those of the same span in a clip that is decoded as a whole."""
    path = make_clip(ticks=range(240), audio="aac", audio_s=8.0)
    clip = decode_clip(path, replace(spec, segment_s=2.0, max_audio_s=1.0), limits)
    # 16 midpoints of the whole are the 4 midpoints of each of 4 segments.
    whole = decode_clip(path, replace(spec, n_frames=16), limits)
    assert [(round(s.start_s), round(s.end_s)) for s in clip.segments] == [(0, 2), (2, 4), (4, 6), (6, 8)]
    assert whole.frames is not None
    assert whole.waveform is not None
    assert clip.full_waveform is not None
    for i, segment in enumerate(clip.segments[:3]):
        np.testing.assert_array_equal(segment.frames, whole.frames[4 * i : 4 * i + 4])
        np.testing.assert_array_equal(segment.frame_times_s, whole.frame_times_s[4 * i : 4 * i + 4])
        assert segment.audio_samples == (i * 32_000, (i + 1) * 32_000)
    np.testing.assert_array_equal(clip.full_waveform, whole.waveform)
    assert clip.waveform is not None
    assert len(clip.waveform) == 16_000


def test_a_track_may_be_missing_from_some_segments(
    make_clip: Make, spec: DecodeSpec, limits: DecodeLimits
) -> None:
    """Audio that ends early and video that ends early are reported for the segments concerned only."""
    short_sound = decode_clip(
        make_clip(ticks=range(180), audio="aac", audio_s=2.0), replace(spec, segment_s=2.0), limits
    )
    assert [segment.audio.used for segment in short_sound.segments] == [True, False, False]
    assert short_sound.segments[2].audio.reason == "no_samples"
    assert short_sound.segments[2].audio_samples is None
    short_picture = decode_clip(
        make_clip(name="b.mp4", ticks=range(60), audio="aac", audio_s=6.0),
        replace(spec, segment_s=2.0),
        limits,
    )
    assert [segment.visual.used for segment in short_picture.segments] == [True, False, False]
    assert short_picture.segments[1].frames is None
    assert [len(segment.frame_times_s) for segment in short_picture.segments] == [4, 0, 0]
    assert short_picture.duration_s == pytest.approx(6.0, abs=0.1)


def test_the_duration_includes_audio_that_is_not_used(
    make_clip: Make, spec: DecodeSpec, limits: DecodeLimits
) -> None:
    """Audio after `max_audio_s` counts, whether it is decoded for segments or not."""
    path = make_clip(name="s.m4a", codec=None, audio="aac", audio_s=8.0)
    spec = replace(spec, max_audio_s=1.0)
    plain = decode_clip(path, spec, limits)
    cut_up = decode_clip(path, replace(spec, segment_s=2.0), limits)
    assert plain.duration_s == cut_up.duration_s == pytest.approx(8.0, abs=0.1)
    assert len(cut_up.segments) == 4
    assert all(segment.audio.used for segment in cut_up.segments)


def test_segments_cross_the_process_boundary_unchanged(
    make_clip: Make, spec: DecodeSpec, limits: DecodeLimits
) -> None:
    """Every field is equal on both sides, and so is the error for too many segments."""
    path = make_clip(ticks=range(180), audio="aac", audio_s=3.0)
    spec = replace(spec, segment_s=2.0, max_audio_s=1.0)
    here = decode_clip(path, spec, limits)
    with DecodePool(limits, n_workers=1) as pool:
        there = pool.decode(path, spec)
        with pytest.raises(TooManySegmentsError, match=r"at most 120 .* Ask for segments of 1 second"):
            pool.decode(path, replace(spec, segment_s=0.01))
    _assert_same(here, there)


def _assert_same(here: Clip, there: Clip) -> None:
    np.testing.assert_array_equal(there.full_waveform, here.full_waveform)
    np.testing.assert_array_equal(there.waveform, here.waveform)
    assert len(there.segments) == len(here.segments) == 3
    for ours, theirs in zip(here.segments, there.segments, strict=True):
        np.testing.assert_array_equal(theirs.frames, ours.frames)
        np.testing.assert_array_equal(theirs.frame_times_s, ours.frame_times_s)
        for name in ("start_s", "end_s", "audio_samples", "visual", "audio"):
            assert getattr(theirs, name) == getattr(ours, name)


def test_segments_of_a_large_clip_fall_back_to_key_frames(
    make_clip: Make, spec: DecodeSpec, limits: DecodeLimits
) -> None:
    """A pixel budget that suffices for the clip but not for its segments affects only the latter."""
    path = make_clip(ticks=range(300), gop=30, video_options={"bf": "0"})
    spec = replace(spec, n_frames=2, segment_s=2.0)
    budget = replace(limits, max_decoded_pixels=60 * 96 * 64)
    plain, clip = decode_clip(path, replace(spec, segment_s=None), budget), decode_clip(path, spec, budget)
    assert plain.warnings == ()
    assert len(clip.warnings) == 1
    assert "segments were taken at key frames" in clip.warnings[0]
    assert not clip.at_key_frames
    np.testing.assert_array_equal(clip.frames, plain.frames)
    assert clip.n_frames_decoded <= 60
    tiny = replace(limits, max_decoded_pixels=34 * 96 * 64)
    with pytest.raises(ClipTooLargeError, match="Ask for longer segments"):
        decode_clip(path, replace(spec, segment_s=0.1), tiny)
    few = replace(limits, max_decoded_pixels=5 * 96 * 64)
    with pytest.raises(ClipTooLargeError, match="Ask for longer segments"):
        decode_clip(path, replace(spec, segment_s=0.1, frames="key"), few)


def test_a_track_that_starts_late_is_missing_from_the_first_segments(
    make_clip: Make, spec: DecodeSpec, limits: DecodeLimits
) -> None:
    """Video that starts two seconds after the audio is not in the first segment."""
    path = make_clip(name="late.mkv", ticks=range(60, 180), audio="aac", audio_s=6.0)
    clip = decode_clip(path, replace(spec, segment_s=2.0), limits)
    assert [segment.visual.used for segment in clip.segments] == [False, True, True]
    assert clip.segments[1].frame_times_s == pytest.approx([0.25, 0.75, 1.25, 1.75], abs=0.04)
    assert clip.duration_s == pytest.approx(6.0, abs=0.1)
    assert clip.frame_times_s[0] == pytest.approx(0.25, abs=0.04)


def test_pictures_of_segments_are_held_once(make_clip: Make, spec: DecodeSpec, limits: DecodeLimits) -> None:
    """Of a thousand segments they are more than half a gigabyte."""
    asked = replace(spec, image_size_px=128, segment_s=0.1)
    tracemalloc.start()
    clip = decode_clip(make_clip(gop=10), asked, limits)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert clip.frames is not None
    frames = [segment.frames for segment in clip.segments if segment.frames is not None]
    assert len(frames) == 20
    assert peak_bytes < 1.3 * (clip.frames.nbytes + sum(one.nbytes for one in frames))
