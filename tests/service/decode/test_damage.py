"""Whatever of a file is playable is used, whichever error the rest of it causes."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from av.error import InvalidDataError

from service.decode import clip_decoding, decode_clip
from service.decode.audio import Downmix
from service.decode.container import open_source, packets
from service.decode.frame_reader import FrameReader
from service.decode.picture import Framer
from service.decode.sound import SoundReader
from service.errors import NoTracksError
from service.media import DecodeLimits, DecodeSpec
from tests.service.decode.conftest import Make

FLV_HEADER_BYTES = 13
FLV_VIDEO_ONLY = 1
FLV_AUDIO_TAG, FLV_VIDEO_TAG = 8, 9
# More than FFmpeg looks for streams in an FLV file: 90 seconds.
LATE_S = 95

UNEXPECTED = [
    IndexError("list index out of range"),
    KeyError("x"),
    TypeError("x"),
    AttributeError("x"),
    ZeroDivisionError("x"),
    AssertionError("x"),
    RuntimeError("x"),
]
EXPECTED = [ValueError("x"), OverflowError("x"), UnicodeDecodeError("utf-8", b"\xff", 0, 1, "x")]


def flv_with_late(kind: int, source: Path) -> Path:
    """Move one track of a clip, whose other track lasts for long, to its end, and hide it from the header."""
    content = source.read_bytes()
    others, moved, at = b"", b"", FLV_HEADER_BYTES
    while at < len(content):
        length = 11 + int.from_bytes(content[at + 1 : at + 4]) + 4
        tag = bytearray(content[at : at + length])
        if tag[0] == kind:
            tag[4:7] = (int.from_bytes(tag[4:7]) + LATE_S * 1000).to_bytes(3)
            moved += tag
        elif tag[0] in {FLV_AUDIO_TAG, FLV_VIDEO_TAG}:  # no metadata, which would name the tracks
            others += tag
        at += length
    flags = bytes([FLV_VIDEO_ONLY if kind == FLV_AUDIO_TAG else 4])
    path = source.with_name("late.flv")
    path.write_bytes(content[:4] + flags + content[5:FLV_HEADER_BYTES] + others + moved)
    return path


@pytest.fixture
def late_audio(make_clip: Make) -> Path:
    """An FLV file of 100 seconds whose header lists the picture only; the last 2 seconds have sound."""
    path = make_clip(
        name="c.flv",
        codec="flv",
        ticks=range(0, 3000, 30),
        audio="libmp3lame",
        container_options={"max_interleave_delta": "0"},  # wait for the sound, however late it is encoded
    )
    return flv_with_late(FLV_AUDIO_TAG, path)


@pytest.fixture
def long_limits(limits: DecodeLimits) -> DecodeLimits:
    """Limits for a clip of 100 seconds."""
    return replace(limits, max_duration_s=200.0)


def test_sound_that_starts_late_in_a_file_without_a_list_of_streams_is_used(
    late_audio: Path, spec: DecodeSpec, long_limits: DecodeLimits
) -> None:
    """FFmpeg comes upon the stream when the file is already open; PyAV answers with an IndexError."""
    with late_audio.open("rb", buffering=0) as file, open_source(file, long_limits) as source:
        assert source.audio_stream is None
    clip = decode_clip(late_audio, spec, long_limits)
    assert (clip.visual.used, clip.audio.used, clip.warnings) == (True, True, ())
    assert clip.waveform is not None
    assert len(clip.waveform) == pytest.approx(2 * spec.sample_rate_hz, rel=0.1)
    assert clip.duration_s == pytest.approx(100, abs=1)


def test_pictures_that_start_late_are_used(
    make_clip: Make, spec: DecodeSpec, long_limits: DecodeLimits, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if the payload is read a second time, from a file opened in the same way."""
    path = make_clip(name="c.flv", codec="flv", audio="adpcm_swf", audio_s=100.0)
    late = flv_with_late(FLV_VIDEO_TAG, path)
    clip = decode_clip(late, spec, long_limits)
    monkeypatch.setattr("service.decode.packets._KEEP_BYTES", 0)
    again = decode_clip(late, spec, long_limits)
    assert (clip.visual.used, clip.audio.used) == (True, True)
    np.testing.assert_array_equal(clip.frames, again.frames)
    assert clip.warnings == again.warnings


def test_a_late_track_that_stays_unknown_is_said_in_a_warning(
    late_audio: Path, spec: DecodeSpec, long_limits: DecodeLimits, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other track is used."""
    monkeypatch.setattr(clip_decoding, "open_source", lambda file, limits, **_: open_source(file, limits))
    clip = decode_clip(late_audio, spec, long_limits)
    assert (clip.visual.used, clip.audio.used) == (True, False)
    assert any("starts late" in warning for warning in clip.warnings)


def test_frames_before_packets_that_are_damaged_are_used(
    make_clip: Make, spec: DecodeSpec, limits: DecodeLimits
) -> None:
    """Of 60 packets the last 27 are overwritten."""
    path = make_clip(name="c.avi", codec="mjpeg", pix_fmt="yuvj420p")
    content = bytearray(path.read_bytes())
    at = content.index(b"movi") + 4
    for number in range(60):
        at = content.index(b"00dc", at)
        length = int.from_bytes(content[at + 4 : at + 8], "little")
        if number >= 33:
            content[at + 8 : at + 8 + length] = bytes(length)
        at += 8 + length
    path.write_bytes(content)
    clip = decode_clip(path, spec, limits)
    assert clip.frames is not None
    assert clip.frame_times_s.max() == pytest.approx(32 / 30)
    assert any("damaged" in warning for warning in clip.warnings)


def stop_after(n_packets: int, error: Exception) -> Callable[..., Iterator[Any]]:
    """A demuxer that fails after some packets."""

    def packets(container: Any, streams: Any) -> Iterator[Any]:
        for number, packet in enumerate(p for p in container.demux(streams) if p.size):
            if number == n_packets:
                raise error
            yield packet

    return packets


@pytest.mark.parametrize("error", UNEXPECTED + EXPECTED, ids=repr)
def test_packets_before_an_error_are_used_whatever_it_is(
    error: Exception,
    make_clip: Make,
    spec: DecodeSpec,
    limits: DecodeLimits,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """33 good frames are 1.1 seconds."""
    monkeypatch.setattr(clip_decoding, "packets", stop_after(33, error))
    clip = decode_clip(make_clip(video_options={"bf": "0"}), spec, limits)
    assert clip.frames is not None
    assert clip.duration_s == pytest.approx(1.1)
    assert any("cut short" in warning for warning in clip.warnings)


@pytest.mark.parametrize(("name", "n_failures", "n_read"), [("mpeg", 3, 2), ("mpeg", 200, 0), ("avi", 3, 0)])
def test_a_stream_may_begin_with_packets_that_are_not_understood(
    name: str, n_failures: int, n_read: int
) -> None:
    """As a capture does that begins inside of a frame; the error is told at the end. Others end at once."""
    errors = [InvalidDataError(1, "No start code is found")] * n_failures
    found = [SimpleNamespace(size=1, time_base=None), SimpleNamespace(size=2, time_base=None)]

    def demux(_: Any) -> Iterator[Any]:
        if errors:
            raise errors.pop()
        yield from found

    container: Any = SimpleNamespace(format=SimpleNamespace(name=name), demux=demux)
    read = packets(container, [])
    assert [packet.size for packet in islice(read, n_read)] == [1, 2][:n_read]
    with pytest.raises(InvalidDataError):
        next(read)


@pytest.mark.parametrize("error", UNEXPECTED, ids=repr)
def test_an_unexpected_error_before_anything_was_decoded_is_raised(
    error: Exception,
    make_clip: Make,
    spec: DecodeSpec,
    limits: DecodeLimits,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The decoding process answers it with `decode_failed` and a trace for the log."""
    monkeypatch.setattr(clip_decoding, "packets", stop_after(0, error))
    with pytest.raises(type(error)) as caught:
        decode_clip(make_clip(audio="aac"), spec, limits)
    assert caught.value is error


@pytest.mark.parametrize("error", EXPECTED, ids=repr)
def test_an_error_of_bad_content_before_anything_was_decoded_is_about_the_tracks(
    error: Exception,
    make_clip: Make,
    spec: DecodeSpec,
    limits: DecodeLimits,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nothing is wrong with the service."""
    monkeypatch.setattr(clip_decoding, "packets", stop_after(0, error))
    with pytest.raises(NoTracksError):
        decode_clip(make_clip(audio="aac"), spec, limits)


def failing(original: Callable[..., Any], at_call: int, error: Exception) -> Callable[..., Any]:
    """A function that fails at one of its calls, counted from 0; at every call for -1."""
    n_calls = iter(range(1_000_000))

    def call(*args: Any) -> Any:
        if at_call in {-1, next(n_calls)}:
            raise error
        return original(*args)

    return call


@pytest.mark.parametrize("error", [ValueError("x"), KeyError("x")], ids=repr)
def test_a_frame_that_can_not_be_resampled_costs_less_than_a_second(
    error: Exception,
    make_clip: Make,
    spec: DecodeSpec,
    limits: DecodeLimits,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The filter graph that failed is not used again, nor what it holds; the sound after is in another."""
    path = make_clip(name="s.flac", codec=None, audio="flac")
    whole = decode_clip(path, spec, limits).waveform
    monkeypatch.setattr(Downmix, "add", failing(Downmix.add, 5, error))
    clip = decode_clip(path, spec, limits)
    assert whole is not None
    assert clip.waveform is not None
    lost_s = (len(whole) - len(clip.waveform)) / spec.sample_rate_hz
    # The frame, one before that was still in the filters, and less than a piece of what they return.
    assert 2 * 4608 / 44_100 - 0.01 < lost_s < 2 * 4608 / 44_100 + 4096 / spec.sample_rate_hz + 0.01
    assert any("sound are damaged" in warning for warning in clip.warnings)


@pytest.mark.parametrize(
    ("owner", "method"), [(Downmix, "add"), (Downmix, "__init__"), (SoundReader, "__init__")]
)
def test_sound_that_can_not_be_processed_leaves_the_picture(
    owner: type,
    method: str,
    make_clip: Make,
    spec: DecodeSpec,
    limits: DecodeLimits,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is reported as undecodable."""
    monkeypatch.setattr(owner, method, failing(getattr(owner, method), -1, IndexError("x")))
    clip = decode_clip(make_clip(audio="aac"), spec, limits)
    assert clip.frames is not None
    assert (clip.audio.used, clip.audio.reason) == (False, "undecodable")


def test_a_frame_that_can_not_be_converted_is_replaced_by_its_neighbour(
    make_clip: Make, spec: DecodeSpec, limits: DecodeLimits, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A warning says so."""
    monkeypatch.setattr(Framer, "picture", failing(Framer.picture, 0, TypeError("x")))
    clip = decode_clip(make_clip(), spec, limits)
    assert clip.frames is not None
    assert any("nearest readable frames" in warning for warning in clip.warnings)


@pytest.mark.parametrize(
    ("owner", "method"), [(Framer, "picture"), (FrameReader, "__init__"), (FrameReader, "read")]
)
def test_pictures_that_can_not_be_processed_leave_the_sound(
    owner: type,
    method: str,
    make_clip: Make,
    spec: DecodeSpec,
    limits: DecodeLimits,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They are reported as undecodable; without sound the error is raised."""
    monkeypatch.setattr(owner, method, failing(getattr(owner, method), -1, KeyError("x")))
    clip = decode_clip(make_clip(audio="aac"), spec, limits)
    assert clip.waveform is not None
    assert (clip.visual.used, clip.visual.reason) == (False, "undecodable")
    with pytest.raises(KeyError):
        decode_clip(make_clip(name="mute.mp4"), spec, limits)


@pytest.mark.parametrize("where", ["packets", "sound", "picture"])
def test_the_memory_limit_is_never_taken_for_damage(
    where: str, make_clip: Make, spec: DecodeSpec, limits: DecodeLimits, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The decoding process answers it with `too_many_pixels`."""
    error: Any = MemoryError()
    if where == "packets":
        monkeypatch.setattr(clip_decoding, "packets", stop_after(33, error))
    elif where == "sound":
        monkeypatch.setattr(Downmix, "add", failing(Downmix.add, 3, error))
    else:
        monkeypatch.setattr(Framer, "picture", failing(Framer.picture, 3, error))
    with pytest.raises(MemoryError):
        decode_clip(make_clip(audio="aac"), spec, limits)


def test_a_second_look_into_a_file_does_not_disturb_the_first(make_clip: Make, limits: DecodeLimits) -> None:
    """Both read the same open file, which has one position, and it is larger than a buffer of FFmpeg."""
    path = make_clip(name="c.avi", codec="rawvideo", ticks=range(30))
    with path.open("rb", buffering=0) as file, open_source(file, limits) as source:
        assert source.video_stream is not None
        undisturbed = [bytes(packet) for packet in packets(source.container, [source.video_stream])]
    with path.open("rb", buffering=0) as file, open_source(file, limits) as source:
        assert source.video_stream is not None
        first = packets(source.container, [source.video_stream])
        start = [bytes(next(first)) for _ in range(10)]
        with source.again(source.video_stream) as (_, again):
            assert [bytes(packet) for packet in again] == undisturbed
        assert start + [bytes(packet) for packet in first] == undisturbed
