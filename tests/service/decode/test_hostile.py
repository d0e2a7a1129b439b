"""Files that are no clips, lie about themselves or cost too much end in one typed error each."""

import struct
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
from av.stream import Disposition

from service.decode import decode_clip
from service.errors import (
    ClipTooLargeError,
    ClipTooLongError,
    EmptyFileError,
    MediaError,
    NotMediaError,
    NoTracksError,
    TruncatedMediaError,
)
from service.media import DecodeLimits, DecodeSpec
from tests.service.decode.clips import picture
from tests.service.decode.conftest import Make

SDP = "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n"


def gif_of(width: int, height: int) -> bytes:
    """A one-colour GIF of a few bytes that asks for a canvas of any size."""
    screen = b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + bytes(6)
    frame = b"\x2c" + struct.pack("<HHHHB", 0, 0, width, height, 0) + b"\x02\x02\x4c\x01\x00"
    return screen + frame + b"\x3b"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "empty"),
        (b"hello, this is no clip at all, only text" * 20, "not a clip"),
        (bytes(range(256)) * 50, "not a clip"),
        (b"ffconcat version 1.0\nfile neighbour.mp4\n", "playlist"),
        (b"#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\nneighbour.mp4\n#EXT-X-ENDLIST\n", "playlist"),
        (b"<?xml version='1.0'?><MPD xmlns='urn:mpeg:dash:schema:mpd:2011'></MPD>", "playlist"),
        (SDP.encode(), "points to media"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "still image"),
        (b"\xff\xd8\xff\xe0" + bytes(100), "still image"),
        (b"\0\0\0\x1cftypavif" + bytes(100), "still image"),
        (b"RIFF\x10\0\0\0WEBPVP8 " + bytes(100), "still image"),
    ],
)
@pytest.mark.parametrize("name", ["upload", "upload.mp4", "upload.m3u8"])
def test_what_is_no_clip_is_refused_whatever_its_name(
    content: bytes,
    said: str,
    name: str,
    make_clip: Make,
    tmp_path: Path,
    spec: DecodeSpec,
    limits: DecodeLimits,
) -> None:
    """Playlists beside a real clip do not get to open it; the message says what was sent."""
    make_clip(name="neighbour.mp4", ticks=range(3))
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises((NotMediaError, EmptyFileError), match=said):
        decode_clip(path, spec, limits)


def test_messages_hold_no_path(tmp_path: Path, spec: DecodeSpec, limits: DecodeLimits) -> None:
    """What the user reads says nothing about the machine."""
    path = tmp_path / "secret-name.mp4"
    path.write_bytes(b"nothing to see")
    with pytest.raises(MediaError) as caught:
        decode_clip(path, spec, limits)
    assert "secret-name" not in caught.value.message
    assert str(tmp_path) not in caught.value.message


def test_a_clip_cut_before_its_index_is_called_truncated(
    make_clip: Make, spec: DecodeSpec, limits: DecodeLimits
) -> None:
    """An MP4 keeps its index at the end; an upload that broke off has none."""
    path = make_clip(audio="aac")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(TruncatedMediaError):
        decode_clip(path, spec, limits)


@pytest.mark.parametrize(
    ("name", "options"),
    [("c.mp4", {"movflags": "faststart"}), ("c.mp4", {"movflags": "frag_keyframe+empty_moov"}), ("c.ts", {})],
)
def test_of_a_clip_cut_in_the_middle_the_first_part_is_used(
    name: str, options: dict[str, str], make_clip: Make, spec: DecodeSpec, limits: DecodeLimits
) -> None:
    """With the index in front, what arrived can be decoded."""
    path = make_clip(name=name, container_options=options, ticks=range(120), audio="aac", audio_s=4.0)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    clip = decode_clip(path, spec, limits)
    assert clip.frames is not None
    assert clip.waveform is not None
    assert 1.0 < clip.duration_s < 4.1
    assert clip.frame_times_s.max() < 3.5


def test_damage_in_the_middle_costs_a_warning_only(
    make_clip: Make, spec: DecodeSpec, limits: DecodeLimits
) -> None:
    """Bytes that make no sense lose some frames; the others, and every time, are still there."""
    path = make_clip(ticks=range(120), gop=10)
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 600] = bytes(600)
    path.write_bytes(content)
    clip = decode_clip(path, spec, limits)
    assert clip.frames is not None
    assert len(clip.frames) == spec.n_frames
    assert clip.warnings


def test_a_cover_picture_is_no_video(tmp_path: Path, spec: DecodeSpec, limits: DecodeLimits) -> None:
    """A song with a cover has sound only."""
    path = tmp_path / "song.mp3"
    with av.open(str(path), "w") as container:
        sound = container.add_stream("libmp3lame", rate=44_100)
        cover = container.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 64, 64, "yuvj420p"
        cover.disposition = Disposition.attached_pic
        wave = 0.3 * np.sin(np.arange(44_100) / 10)
        frame = av.AudioFrame.from_ndarray(wave.astype(np.float32)[None], "fltp", "mono")
        frame.sample_rate = 44_100
        resample = av.AudioResampler(sound.codec_context.format, sound.codec_context.layout, 44_100, 1152)
        container.mux(cover.encode(av.VideoFrame.from_ndarray(picture(0, 64, 64), "rgb24")))
        container.mux(cover.encode(None))
        for part in [*resample.resample(frame), *resample.resample(None)]:
            container.mux(sound.encode(part))
        container.mux(sound.encode(None))
    clip = decode_clip(path, spec, limits)
    assert clip.frames is None
    assert clip.visual.detail == "only a cover picture"
    assert clip.waveform is not None


def test_a_tiny_file_with_a_huge_canvas_is_refused(
    tmp_path: Path, spec: DecodeSpec, limits: DecodeLimits
) -> None:
    """35 bytes of GIF would fill a gigabyte."""
    path = tmp_path / "bomb.gif"
    path.write_bytes(gif_of(16_000, 16_000))
    with pytest.raises(ClipTooLargeError, match="16000 x 16000"):
        decode_clip(path, spec, limits)
    path.write_bytes(gif_of(60, 40))
    assert decode_clip(path, spec, limits).frames is not None


def test_far_too_thin_frames_are_refused(tmp_path: Path, spec: DecodeSpec, limits: DecodeLimits) -> None:
    """Few pixels in the file, but scaling the short side up would make very many."""
    path = tmp_path / "thin.gif"
    path.write_bytes(gif_of(60_000, 1))
    with pytest.raises(ClipTooLargeError, match="thin"):
        decode_clip(path, replace(spec, image_size_px=224), limits)


def test_too_many_pixels_in_all_are_refused(make_clip: Make, spec: DecodeSpec, limits: DecodeLimits) -> None:
    """The cap holds for frames x width x height; with one key frame there is no way around it."""
    path = make_clip(gop=250)
    with pytest.raises(ClipTooLargeError, match="too many pixels"):
        decode_clip(path, spec, replace(limits, max_decoded_pixels=96 * 64 - 1))


@pytest.mark.parametrize(
    "recipe", [{}, {"name": "s.flac", "codec": None, "audio": "flac"}], ids=["video", "sound"]
)
def test_length_is_measured_not_believed(
    recipe: dict[str, str | None], make_clip: Make, spec: DecodeSpec, limits: DecodeLimits
) -> None:
    """Two seconds are more than one, whatever the track."""
    path = make_clip(**recipe)
    with pytest.raises(ClipTooLongError, match="1 seconds"):
        decode_clip(path, spec, replace(limits, max_duration_s=1.0))


def test_too_many_streams_are_refused(make_clip: Make, spec: DecodeSpec, limits: DecodeLimits) -> None:
    """Each stream costs memory before anything is decoded."""
    path = make_clip(audio="aac")
    with pytest.raises(NotMediaError, match="streams"):
        decode_clip(path, spec, replace(limits, max_streams=1))


def test_a_codec_that_is_not_allowed_is_not_run(
    make_clip: Make, spec: DecodeSpec, limits: DecodeLimits
) -> None:
    """PNG frames inside a MOV are pictures that clips do not use."""
    path = make_clip(name="c.mov", codec="png", pix_fmt="rgb24", ticks=range(3))
    with pytest.raises(NoTracksError, match="video codec not supported"):
        decode_clip(path, spec, limits)


def test_a_last_frame_that_claims_to_stay_for_ever_makes_the_clip_too_long(
    make_clip: Make, spec: DecodeSpec, limits: DecodeLimits
) -> None:
    """Durations of packets lie too: else one frame would be all that the sample sees."""
    path = make_clip(ticks=[0, 1, 2, 3, 30 * 61])
    with pytest.raises(ClipTooLongError):
        decode_clip(path, spec, limits)
