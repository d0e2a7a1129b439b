"""The formats of film, broadcasting and archives are read right, and within the same limits as all others."""

import io
import struct
import subprocess
import sys
import zlib
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from service.decode import decode_clip, formats
from service.decode.container import open_source
from service.decode.formats import is_chained_ogg, open_options
from service.errors import ClipTooLargeError, NoTracksError
from service.media import DecodeLimits, DecodeSpec
from tests.service.decode.clips import picture, write_sound
from tests.service.decode.conftest import Make

# File name, encoder of the picture, its pixel format, encoder of the sound.
FILMS = [
    ("c.mov", "cfhd", "yuv422p10le", None),
    ("c.mov", "cfhd", "gbrp12le", None),
    ("c.mov", "png", "rgb24", "pcm_s16le"),
    ("c.avi", "png", "rgb24", "pcm_s16le"),
    ("c.mov", "png", "rgb48be", None),
    ("c.mov", "v210", "yuv422p10le", "pcm_s24le"),
    ("c.avi", "v210", "yuv422p10le", None),
    ("c.mov", "r210", "gbrp10le", None),
    ("c.mov", "jpeg2000", "yuv420p", None),
    ("c.avi", "jpeg2000", "rgb24", None),
    ("c.avi", "magicyuv", "yuv420p", None),
    ("c.mov", "magicyuv", "gbrp", None),
    ("c.mxf", "mpeg2video", "yuv422p", "pcm_s16le"),
    ("c.mxf", "libx264", "yuv420p", "pcm_s24le"),
    ("c.mxf", "jpeg2000", "yuv422p10le", "pcm_s16le"),
    ("c.mxf", "prores", "yuv422p10le", "pcm_s16le"),
    ("c.ivf", "libvpx", "yuv420p", None),
    ("c.ivf", "libvpx-vp9", "yuv420p", None),
    ("c.y4m", "rawvideo", "yuv420p", None),
    ("c.apng", "apng", "rgb24", None),
    ("c.apng", "apng", "rgba", None),
]
# File name, encoder, its options. These have no container, hence most of them no timestamps.
RAW = [
    ("c.h264", "libx264", {"bf": "0"}),
    ("c.hevc", "libx265", {"x265-params": "bframes=0:log-level=none"}),
    ("c.m2v", "mpeg2video", {}),
]


def expect_drawn(clip: Any, rate: float, *, within: int = 0) -> None:
    """Every picture is the one that was drawn for its time, or at most `within` frames away from it."""
    for frame, at_s in zip(clip.frames, clip.frame_times_s, strict=True):
        number = round(at_s * rate)
        near = [drawn_small(n) for n in range(max(0, number - within), number + within + 1)]
        assert min(np.abs(frame.astype(float) - image).mean() for image in near) < 8


def drawn_small(number: int) -> np.ndarray[Any, Any]:
    """Frame `number` as a model gets it: the middle square, 32 x 32."""
    image = Image.fromarray(picture(number, 96, 64)).crop((16, 0, 80, 64))
    return np.asarray(image.resize((32, 32), Image.Resampling.BICUBIC), dtype=float)


@pytest.mark.parametrize(("name", "codec", "pix_fmt", "audio"), FILMS)
def test_formats_of_film_and_broadcasting_are_read(
    name: str,
    codec: str,
    pix_fmt: str,
    audio: str | None,
    make_clip: Make,
    spec: DecodeSpec,
    limits: DecodeLimits,
) -> None:
    """Each frame is the one that was drawn for its time."""
    path = make_clip(
        name=name,
        codec=codec,
        pix_fmt=pix_fmt,
        audio=audio,
        rate_hz=48_000 if name == "c.mxf" else 44_100,
        # FFmpeg writes no order of display into MXF, and H.264 in it is mostly without reordered frames.
        video_options={"bf": "0"} if codec == "libx264" else {},
    )
    clip = decode_clip(path, spec, limits)
    assert clip.duration_s == pytest.approx(2.0, abs=0.05)
    assert clip.warnings == ()
    expect_drawn(clip, 30)
    assert clip.audio.used == (audio is not None)
    if clip.waveform is not None:
        assert int(np.abs(np.fft.rfft(clip.waveform[8_000:24_000])).argmax()) == 440


@pytest.mark.parametrize("name", ["c.dv", "c.avi"])
def test_digital_video_is_read(name: str, make_clip: Make, spec: DecodeSpec, limits: DecodeLimits) -> None:
    """DV has a fixed size and rate: 50 frames of PAL are 2 s, with sound in the same stream or beside it."""
    path = make_clip(
        name=name,
        codec="dvvideo",
        width=720,
        height=576,
        ticks=range(50),
        fps=25,
        audio="pcm_s16le",
        rate_hz=48_000,
    )
    clip = decode_clip(path, spec, limits)
    assert clip.duration_s == pytest.approx(2.0, abs=0.05)
    assert (clip.visual.used, clip.audio.used, clip.warnings) == (True, True, ())
    assert len(np.unique(clip.frame_times_s)) == spec.n_frames


def test_frames_before_a_packet_that_claims_to_be_huge_are_used(
    make_clip: Make, spec: DecodeSpec, limits: DecodeLimits
) -> None:
    """FFmpeg reports this as a lack of memory."""
    path = make_clip(name="c.ivf", codec="libvpx")
    content, at = bytearray(path.read_bytes()), 32
    for _ in range(33):
        at += 12 + int.from_bytes(content[at : at + 4], "little")
    content[at : at + 4] = b"\xff\xff\xff\xff"
    path.write_bytes(content)
    clip = decode_clip(path, spec, limits)
    assert clip.duration_s == pytest.approx(1.1)
    assert any("cut short" in warning for warning in clip.warnings)


@pytest.mark.parametrize(("name", "codec", "options"), RAW)
def test_streams_without_a_container_are_read(
    name: str, codec: str, options: dict[str, str], make_clip: Make, spec: DecodeSpec, limits: DecodeLimits
) -> None:
    """Their duration is that of the frames, at the rate that is written in them."""
    clip = decode_clip(make_clip(name=name, codec=codec, video_options=options), spec, limits)
    assert clip.duration_s == pytest.approx(2.0, abs=0.05)
    expect_drawn(clip, 30)


def test_reordered_frames_without_times_are_a_few_frames_early_or_late(
    make_clip: Make, spec: DecodeSpec, limits: DecodeLimits
) -> None:
    """The order of the packets stands in for the times that a raw stream lacks."""
    clip = decode_clip(make_clip(name="c.h264", video_options={"bf": "2"}), spec, limits)
    assert clip.duration_s == pytest.approx(2.0, abs=0.05)
    expect_drawn(clip, 30, within=3)


@pytest.mark.parametrize(
    ("name", "codec", "layout"), [("s.wv", "wavpack", "stereo"), ("s.wv", "wavpack", "5.1")]
)
def test_wavpack_is_read(
    name: str, codec: str, layout: str, make_clip: Make, spec: DecodeSpec, limits: DecodeLimits
) -> None:
    """It is lossless: a tone keeps its length and pitch."""
    clip = decode_clip(make_clip(name=name, codec=None, audio=codec, layout=layout), spec, limits)
    assert clip.waveform is not None
    assert len(clip.waveform) == pytest.approx(32_000, abs=2)
    assert int(np.abs(np.fft.rfft(clip.waveform[8_000:24_000])).argmax()) == 440


def tone(path: Path, codec: str, layout: str, hz: float) -> bytes:
    """Two seconds of Ogg."""
    wave = 0.5 * np.sin(2 * np.pi * hz * np.arange(96_000) / 48_000)
    samples = np.tile(wave, (av.AudioLayout(layout).nb_channels, 1))
    return write_sound(path, samples, codec, layout=layout, rate_hz=48_000).read_bytes()


@pytest.mark.parametrize("codec", ["libopus", "flac"])
def test_several_ogg_recordings_in_a_row_are_one_clip(
    codec: str, tmp_path: Path, spec: DecodeSpec, limits: DecodeLimits
) -> None:
    """Radio stations send such files; each recording is decoded, without a word of damage."""
    path = tmp_path / "chain.ogg"
    path.write_bytes(b"".join(tone(tmp_path / "s.ogg", codec, "stereo", hz) for hz in (440, 880)))
    clip = decode_clip(path, spec, limits)
    assert clip.waveform is not None
    assert clip.duration_s == pytest.approx(4.0, abs=0.05)
    peaks = [np.abs(np.fft.rfft(clip.waveform[at : at + 16_000])).argmax() for at in (8_000, 40_000)]
    assert peaks == [440, 880]
    assert clip.warnings == ()


@pytest.mark.parametrize(("codec", "layout"), [("libopus", "mono"), ("flac", "stereo")])
def test_recordings_of_another_format_after_the_first_are_left_out_with_a_warning(
    codec: str, layout: str, tmp_path: Path, spec: DecodeSpec, limits: DecodeLimits
) -> None:
    """FFmpeg stops there. Nothing is damaged, and the warning does not say so."""
    path = tmp_path / "chain.ogg"
    first = tone(tmp_path / "a.ogg", "libopus", "stereo", 440)
    path.write_bytes(first + tone(tmp_path / "b.ogg", codec, layout, 880))
    clip = decode_clip(path, spec, limits)
    assert clip.duration_s == pytest.approx(2.0, abs=0.05)
    assert any("several recordings" in warning for warning in clip.warnings)
    assert not any("damaged" in warning for warning in clip.warnings)


@pytest.mark.parametrize("n_bytes", [7, 16, 10_000])
@pytest.mark.parametrize(
    ("flags", "is_chained"),
    [([2, 0, 4], False), ([2, 0, 4, 2, 0, 4], True), ([2, 2, 0, 4], False), ([], False)],
)
def test_several_recordings_are_told_in_blocks(
    flags: list[int], n_bytes: int, *, is_chained: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file may be larger than the memory of the process. Two streams of one recording begin together."""
    monkeypatch.setattr(formats, "_BLOCK_BYTES", n_bytes)
    content = b"".join(b"OggS\0" + bytes([flag]) + b"OggOggS" for flag in flags)
    assert is_chained_ogg(io.BytesIO(content)) == is_chained
    assert not is_chained_ogg(io.BytesIO(b"RIFF" + content))


def chunk(kind: bytes, content: bytes) -> bytes:
    """A chunk of a PNG file."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(frames: Sequence[bytes], width: int, height: int, *, animated: bool) -> bytes:
    """A PNG file of 8 bits a channel; frames are RGBA, row by row."""
    header = struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0)
    out = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)
    out += chunk(b"acTL", struct.pack(">II", len(frames), 0)) if animated else b""
    number = 0
    for first, pixels in zip([True] + [False] * len(frames), frames, strict=False):
        rows = b"".join(b"\0" + pixels[y * width * 4 : (y + 1) * width * 4] for y in range(height))
        if animated:
            out += chunk(b"fcTL", struct.pack(">IIIIIHHBB", number, width, height, 0, 0, 1, 10, 0, 0))
            number += 1
        if first:
            out += chunk(b"IDAT", zlib.compress(rows))
        else:
            out += chunk(b"fdAT", struct.pack(">I", number) + zlib.compress(rows))
            number += 1
    return out + chunk(b"IEND", b"")


def test_transparent_parts_of_animated_png_are_white_as_in_gif(
    tmp_path: Path, spec: DecodeSpec, limits: DecodeLimits
) -> None:
    """Half transparent red is pink, whatever colour is stored under what is wholly transparent."""
    image = np.zeros((64, 64, 4), dtype=np.uint8)
    image[:, :32] = (255, 0, 0, 128)
    image[:, 32:] = (0, 0, 255, 0)
    animated = tmp_path / "a.apng"
    animated.write_bytes(png([image.tobytes()] * 2, 64, 64, animated=True))
    gif = tmp_path / "a.gif"
    steps = [Image.fromarray(np.full((64, 64), level, dtype=np.uint8)) for level in (0, 1)]
    steps[0].save(gif, save_all=True, append_images=steps[1:], transparency=0, disposal=2)
    frames = decode_clip(animated, spec, limits).frames
    gif_frames = decode_clip(gif, spec, limits).frames
    assert frames is not None
    assert gif_frames is not None
    np.testing.assert_array_equal(gif_frames[0], 255)
    np.testing.assert_allclose(frames[:, :, :13], np.broadcast_to((255, 127, 127), (8, 32, 13, 3)), atol=1)
    np.testing.assert_allclose(frames[:, :, -13:], 255, atol=1)


LARGE = [
    ("c.mov", "cfhd", "yuv422p10le"),
    ("c.mov", "png", "rgb24"),
    ("c.mov", "v210", "yuv422p10le"),
    ("c.mov", "r210", "gbrp10le"),
    ("c.mov", "jpeg2000", "rgb24"),
    ("c.mxf", "jpeg2000", "yuv422p10le"),
    ("c.avi", "magicyuv", "yuv420p"),
    ("c.mxf", "mpeg2video", "yuv422p"),
    ("c.ivf", "libvpx", "yuv420p"),
    ("c.y4m", "rawvideo", "yuv420p"),
    ("c.apng", "apng", "rgb24"),
    ("c.h264", "libx264", "yuv420p"),
    ("c.hevc", "libx265", "yuv420p"),
]


@pytest.mark.parametrize(("name", "codec", "pix_fmt"), LARGE)
def test_the_limit_on_pixels_holds_for_every_new_format(
    name: str, codec: str, pix_fmt: str, make_clip: Make, spec: DecodeSpec, limits: DecodeLimits
) -> None:
    """The error names the size, although the decoder has refused the frame by then."""
    options = {"x265-params": "log-level=none"} if codec == "libx265" else {}
    path = make_clip(name=name, codec=codec, pix_fmt=pix_fmt, ticks=range(3), video_options=options)
    with pytest.raises(ClipTooLargeError, match="96 x 64"):
        decode_clip(path, spec, replace(limits, max_frame_pixels=96 * 64 - 1))


def mux(path: Path, codec: str, pix_fmt: str, packets: Sequence[bytes], width: int, height: int) -> Path:
    """Write packets to a file whose header may say another size than they do."""
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=30)
        stream.width, stream.height, stream.pix_fmt = width, height, pix_fmt
        stream.codec_context.time_base = Fraction(1, 30)
        for number, content in enumerate(packets):
            packet = av.Packet(content)
            packet.stream, packet.pts, packet.dts = stream, number, number
            packet.time_base, packet.is_keyframe = Fraction(1, 30), True
            container.mux(packet)
    return path


@pytest.mark.parametrize(
    ("codec", "pix_fmt"), [(c, p) for n, c, p in LARGE if n == "c.mov" and c[-3:] != "210"]
)
def test_frames_larger_than_the_header_says_are_not_decoded(
    codec: str, pix_fmt: str, make_clip: Make, spec: DecodeSpec, limits: DecodeLimits, tmp_path: Path
) -> None:
    """The frames are 96 x 64, the header says 32 x 32, and 32 x 32 are allowed."""
    with av.open(str(make_clip(name="c.mov", codec=codec, pix_fmt=pix_fmt, ticks=range(3)))) as container:
        packets = [bytes(packet) for packet in container.demux(video=0) if packet.size]
    path = mux(tmp_path / "lie.mov", codec, pix_fmt, packets, 32, 32)
    with pytest.raises(NoTracksError, match="picture is damaged"):
        decode_clip(path, spec, replace(limits, max_frame_pixels=32 * 32))
    assert decode_clip(path, spec, limits).frames is not None


MEASURE = """
import resource, sys
from pathlib import Path
from service.decode import decode_clip
from service.errors import MediaError
from service.media import DecodeLimits, DecodeSpec
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
before = peak()
try:
    decode_clip(Path(sys.argv[1]), DecodeSpec(8, 32, 16000, 10.0), DecodeLimits())
except MediaError as error:
    print(error.code, (peak() - before) // 1024)
"""


@pytest.mark.parametrize(
    ("name", "header_px", "code"),
    [("lie.mov", 64, "no_usable_tracks"), ("true.mov", 9000, "too_many_pixels")],
)
def test_a_small_file_with_a_huge_png_takes_no_memory(
    name: str, header_px: int, code: str, tmp_path: Path
) -> None:
    """Its 81 million pixels would take 309 MB, already when FFmpeg looks for the properties of the stream."""
    header = struct.pack(">IIBBBBB", 9000, 9000, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes((9000 * 3 + 1) * 9000), 1)
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    path = mux(tmp_path / name, "png", "rgb24", [bomb], header_px, header_px)
    said = subprocess.run(  # noqa: S603 - fixed arguments
        [sys.executable, "-c", MEASURE, str(path)], capture_output=True, text=True, check=True
    ).stdout.split()
    assert said[0] == code
    assert int(said[1]) < 100


def test_formats_that_point_to_other_files_or_make_pictures_up_are_not_allowed() -> None:
    """These are demuxers of FFmpeg, by the names that it knows them by."""
    allowed = set(open_options(b"")["format_whitelist"].split(","))
    assert allowed.isdisjoint(
        {"concat", "hls", "dash", "imf", "image2", "sdp", "rtsp", "rtp", "lavfi", "webm_dash_manifest"}
    )
    assert {name for name in allowed if name.endswith("_pipe")} == {"jpeg_pipe", "png_pipe", "webp_pipe"}


def test_every_format_is_one_of_ffmpeg_by_its_own_name() -> None:
    """Others would be refused although they are listed: decoders are compared by name."""
    options = open_options(b"")
    codecs = options["codec_whitelist"].split(",")
    assert [av.Codec(name, "r").name for name in codecs] == codecs
    known = {part for name in av.formats_available for part in name.split(",")}
    assert known.issuperset(options["format_whitelist"].split(","))


def test_what_is_known_of_formats_is_known_by_names_of_ffmpeg() -> None:
    """What stands under another name would be known of nothing."""
    for decoders in (
        formats.SHOW_TRANSPARENCY,
        formats.FORGET_GROUPS,
        formats.CAN_SKIP,
        formats.KNOW_ENCODERS,
        formats.HAVE_PALETTES,
    ):
        assert decoders <= formats.VIDEO_DECODERS
    for names in (
        formats.IMAGE_CONTAINERS,
        formats.ANIMATION_CONTAINERS,
        formats.BEGIN_ANYWHERE,
        formats.MAY_JUMP,
        formats.STORE_TIMES,
        formats.HAVE_HEADERS,
    ):
        assert av.formats_available.issuperset(names)


@pytest.mark.parametrize(("name", "known"), [("c.mp4", None), ("c.mov", None), ("c.mkv", "yuv420p")])
def test_opening_an_mp4_decodes_no_picture(
    name: str, known: str | None, make_clip: Make, limits: DecodeLimits
) -> None:
    """FFmpeg knows the format of pixels from then on only if it has decoded a frame to open the file."""
    path = make_clip(name=name, width=96, height=64)
    with path.open("rb", buffering=0) as file, open_source(file, limits) as source:
        assert source.video_stream is not None
        assert source.video_stream.codec_context.pix_fmt == known
        assert source.visual_track.detail == "h264 96x64"
