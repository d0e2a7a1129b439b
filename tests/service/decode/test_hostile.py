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
        (b"\0\0\0\x1cftypavif" + bytes(100), "image is damaged"),
    ],
)
@pytest.mark.parametrize("name", ["upload", "upload.mp4", "upload.m3u8"])
def test_files_that_are_not_clips_are_rejected_whatever_their_name(
    content: bytes,
    said: str,
    name: str,
    make_clip: Make,
    tmp_path: Path,
    spec: DecodeSpec,
    limits: DecodeLimits,
) -> None:
    """A playlist can't open the real clip next to it; the message says what was sent."""
    make_clip(name="neighbour.mp4", ticks=range(3))
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises((NotMediaError, EmptyFileError), match=said):
        decode_clip(path, spec, limits)


def test_error_messages_contain_no_path(tmp_path: Path, spec: DecodeSpec, limits: DecodeLimits) -> None:
    """Messages tell nothing about the machine."""
    path = tmp_path / "secret-name.mp4"
    path.write_bytes(b"nothing to see")
    with pytest.raises(MediaError) as caught:
        decode_clip(path, spec, limits)
    assert "secret-name" not in caught.value.message
    assert str(tmp_path) not in caught.value.message


def test_a_clip_cut_before_its_index_is_reported_as_truncated(
    make_clip: Make, spec: DecodeSpec, limits: DecodeLimits
) -> None:
    """An MP4 has its index at the end, which an interrupted upload lacks."""
    path = make_clip(audio="aac")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(TruncatedMediaError):
        decode_clip(path, spec, limits)


@pytest.mark.parametrize("length", [2**62, 2**63 - 8, 2**64 - 1])
def test_a_box_longer_than_any_file_ends_the_search_for_an_index(
    length: int, tmp_path: Path, spec: DecodeSpec, limits: DecodeLimits
) -> None:
    """Boxes of an MP4 may have lengths of 64 bits, which no position in a file can have."""
    path = tmp_path / "c.mp4"
    path.write_bytes(b"\0\0\0\x14ftypisom\0\0\0\0isom" + b"\0\0\0\1free" + length.to_bytes(8) + bytes(50))
    with pytest.raises(TruncatedMediaError):
        decode_clip(path, spec, limits)


@pytest.mark.parametrize(
    ("name", "options"),
    [("c.mp4", {"movflags": "faststart"}), ("c.mp4", {"movflags": "frag_keyframe+empty_moov"}), ("c.ts", {})],
)
def test_the_readable_part_of_a_truncated_clip_is_used(
    name: str, options: dict[str, str], make_clip: Make, spec: DecodeSpec, limits: DecodeLimits
) -> None:
    """With the index at the start, the part that arrived can be decoded."""
    path = make_clip(name=name, container_options=options, ticks=range(120), audio="aac", audio_s=4.0)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    clip = decode_clip(path, spec, limits)
    assert clip.frames is not None
    assert clip.waveform is not None
    assert 1.0 < clip.duration_s < 4.1
    assert clip.frame_times_s.max() < 3.5


def test_damage_in_the_middle_gives_a_warning_only(
    make_clip: Make, spec: DecodeSpec, limits: DecodeLimits
) -> None:
    """Some frames are lost; the others, and all timestamps, are kept."""
    path = make_clip(ticks=range(120), gop=10)
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 600] = bytes(600)
    path.write_bytes(content)
    clip = decode_clip(path, spec, limits)
    assert clip.frames is not None
    assert len(clip.frames) == spec.n_frames
    assert clip.warnings


def test_a_cover_picture_is_not_used_as_video(tmp_path: Path, spec: DecodeSpec, limits: DecodeLimits) -> None:
    """A song with a cover has only an audio track."""
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


def test_a_tiny_file_with_a_huge_canvas_is_rejected(
    tmp_path: Path, spec: DecodeSpec, limits: DecodeLimits
) -> None:
    """35 bytes of GIF would fill a gigabyte."""
    path = tmp_path / "bomb.gif"
    path.write_bytes(gif_of(16_000, 16_000))
    with pytest.raises(ClipTooLargeError, match="16000 x 16000"):
        decode_clip(path, spec, limits)
    path.write_bytes(gif_of(60, 40))
    assert decode_clip(path, spec, limits).frames is not None


def test_extremely_thin_frames_are_rejected(tmp_path: Path, spec: DecodeSpec, limits: DecodeLimits) -> None:
    """They have few pixels, but scaling the shorter side up would make very many."""
    path = tmp_path / "thin.gif"
    path.write_bytes(gif_of(60_000, 1))
    with pytest.raises(ClipTooLargeError, match="thin"):
        decode_clip(path, replace(spec, image_size_px=224), limits)


def test_too_many_decoded_pixels_are_rejected(
    make_clip: Make, spec: DecodeSpec, limits: DecodeLimits
) -> None:
    """The limit is on frames x width x height; with a single key frame there is no fallback."""
    path = make_clip(gop=250)
    with pytest.raises(ClipTooLargeError, match="too many pixels"):
        decode_clip(path, spec, replace(limits, max_decoded_pixels=96 * 64 - 1))


@pytest.mark.parametrize(
    "recipe",
    [{}, {"name": "s.flac", "codec": None, "audio": "flac"}, {"name": "c.h264"}],
    ids=["video", "sound", "without timestamps"],
)
def test_the_maximum_duration_is_checked_on_timestamps(
    recipe: dict[str, str | None], make_clip: Make, spec: DecodeSpec, limits: DecodeLimits
) -> None:
    """It holds for each kind of track."""
    path = make_clip(**recipe)
    with pytest.raises(ClipTooLongError, match="1 seconds"):
        decode_clip(path, spec, replace(limits, max_duration_s=1.0))


def test_too_many_streams_are_rejected(make_clip: Make, spec: DecodeSpec, limits: DecodeLimits) -> None:
    """Each stream costs memory before anything is decoded."""
    path = make_clip(audio="aac")
    with pytest.raises(NotMediaError, match="streams"):
        decode_clip(path, spec, replace(limits, max_streams=1))


def test_a_codec_outside_the_list_is_not_used(
    make_clip: Make, spec: DecodeSpec, limits: DecodeLimits
) -> None:
    """Targa frames in a MOV are valid, but no ordinary clip has them."""
    path = make_clip(name="c.mov", codec="targa", pix_fmt="bgr24", ticks=range(3))
    with pytest.raises(NoTracksError, match="video codec not supported"):
        decode_clip(path, spec, limits)


def test_a_last_packet_of_huge_duration_makes_the_clip_too_long(
    make_clip: Make, spec: DecodeSpec, limits: DecodeLimits
) -> None:
    """Otherwise all sampled times would fall into that one frame."""
    path = make_clip(ticks=[0, 1, 2, 3, 30 * 61])
    with pytest.raises(ClipTooLongError):
        decode_clip(path, spec, limits)
