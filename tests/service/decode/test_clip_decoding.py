"""The frames and the sound that come out are the right ones, found with little decoding."""

import os
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from service.decode import decode_clip, packets, video
from service.decode.picture import Framer
from service.media import DecodeLimits, DecodeSpec
from tests.service.decode.conftest import Make

EVERY_CODEC: list[dict[str, Any]] = [
    {"gop": 30},
    {"gop": 250, "ticks": range(150)},
    {"gop": 250, "video_options": {"bf": "0"}},
    {"gop": 12, "video_options": {"x264-params": "open-gop=1:bframes=3:b-pyramid=normal"}},
    {"gop": 1},
    {"ticks": [0, 1, 2, 9, 10, 30, 31, 33, 58, 59, 90]},
    {"ticks": [0, 1, 2]},
    {"name": "c.mkv", "codec": "libx265", "video_options": {"x265-params": "log-level=none"}},
    {"name": "c.webm", "codec": "libvpx"},
    {"name": "c.webm", "codec": "libvpx-vp9"},
    {"name": "c.mkv", "codec": "libsvtav1", "ticks": range(20), "video_options": {"preset": "12"}},
    {"name": "c.avi", "codec": "mpeg4", "video_options": {"bf": "2"}},
    {"name": "c.ts", "codec": "mpeg2video", "video_options": {"bf": "2"}},
    {"name": "c.flv", "codec": "libx264"},
    {"name": "c.gif", "codec": "gif", "pix_fmt": "rgb8", "ticks": range(0, 60, 3)},
    {"pix_fmt": "yuv444p", "width": 97, "height": 63},
    {"pix_fmt": "yuv420p10le"},
    {"pix_fmt": "yuvj420p"},
    {"name": "c.mov", "codec": "qtrle", "pix_fmt": "argb"},
    # A palette comes once, and again when it changes.
    {"name": "c.mov", "codec": "rawvideo", "pix_fmt": "pal8"},
    {"name": "c.avi", "codec": "rawvideo", "pix_fmt": "pal8"},
    {"container_options": {"movflags": "frag_keyframe+empty_moov"}},
]


def full_scan(path: Path, spec: DecodeSpec) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float64], int]:
    """The oracle: decode every frame in the plainest way, then take the one on screen at each time."""
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
        unit = float(container.streams.video[0].time_base or 1)
    times = np.array([float(frame.time) for frame in frames])
    order = np.argsort(times, kind="stable")
    times = times[order] - times.min()
    gap = float(np.median(np.diff(times))) if len(times) > 1 else 0.0
    length = times[-1] + (float(frames[order[-1]].duration) * unit or gap)
    targets = (np.arange(spec.n_frames) + 0.5) * length / spec.n_frames
    shown = [int(np.flatnonzero(times <= target + 1e-6)[-1]) for target in targets]
    framer = Framer(spec.image_size_px, spec.resize, 10**9)
    return np.stack([framer.picture(frames[order[i]], 1.0) for i in shown]), times[shown], len(frames)


@pytest.mark.parametrize("recipe", EVERY_CODEC, ids=lambda recipe: "-".join(map(str, recipe.values()))[:60])
def test_frames_equal_those_of_a_full_scan(
    recipe: dict[str, Any], make_clip: Make, spec: DecodeSpec, limits: DecodeLimits
) -> None:
    """Times and pixels are equal to those of decoding everything, for every codec, container and GOP."""
    path = make_clip(**recipe)
    pictures, times_s, n_frames = full_scan(path, spec)
    for n_threads in (1, 3):
        clip = decode_clip(path, spec, limits, n_threads=n_threads)
        assert clip.frames is not None
        assert clip.visual.used
        np.testing.assert_allclose(clip.frame_times_s, times_s, atol=1e-6)
        np.testing.assert_array_equal(clip.frames, pictures)
        assert clip.n_frames_decoded <= n_frames
        assert clip.warnings == ()


def test_making_a_clip_leaves_the_scheduling_of_the_thread_alone(make_clip: Make) -> None:
    """SVT-AV1 would make it a real-time thread, beside which later tests stood still."""
    before = os.sched_getscheduler(0)
    make_clip(name="c.mkv", codec="libsvtav1", ticks=range(2), video_options={"preset": "12"})
    assert os.sched_getscheduler(0) == before


def test_what_a_live_stream_says_anew_in_the_middle_holds_from_there(
    make_clip: Make, spec: DecodeSpec, limits: DecodeLimits
) -> None:
    """A recording goes on with another encoder's parameters, in a group of which no frame is wanted."""
    plain = {"x264-params": "cabac=0:8x8dct=0:bframes=0"}
    parts = [
        make_clip(name="1.flv", gop=5),
        make_clip(name="2.flv", gop=5, width=160, height=96, video_options=plain),
    ]
    joined = parts[0].with_name("joined.flv")
    joined.write_bytes(_join_flv(parts[0].read_bytes(), parts[1].read_bytes(), seconds=2.1))
    clip = decode_clip(joined, spec, limits)
    expected, times, n_frames = full_scan(joined, spec)
    np.testing.assert_allclose(clip.frame_times_s, times, atol=1e-6)
    np.testing.assert_array_equal(clip.frames, expected)
    assert clip.warnings == ()
    assert clip.n_frames_decoded < n_frames / 2


def _join_flv(first: bytes, second: bytes, seconds: float) -> bytes:
    """A recording and the tags of another, later by that much."""
    file_header, tag_header, size_field = 13, 11, 4
    place = file_header
    while place < len(second):
        tag = bytearray(second[place : place + tag_header])
        later = (tag[7] << 24 | int.from_bytes(tag[4:7])) + round(1000 * seconds)
        tag[4:8] = (later & 0xFFFFFF).to_bytes(3) + bytes([later >> 24])
        end = place + tag_header + int.from_bytes(tag[1:4]) + size_field
        first += tag + second[place + tag_header : end]
        place = end
    return first


def test_a_pause_of_a_programme_stream_is_one(
    make_clip: Make, spec: DecodeSpec, limits: DecodeLimits
) -> None:
    """The picture stands still meanwhile, though not every packet tells its time."""
    path = make_clip(
        name="c.mpg", ticks=[*range(30), *range(90, 120)], video_options={"bf": "2"}, audio="mp2"
    )
    times = decode_clip(path, spec, limits).frame_times_s
    np.testing.assert_allclose(times, [0.25, 0.75, *[29 / 30] * 4, 3.25, 3.75], atol=0.25)


def test_the_sound_is_that_of_the_programme_whose_picture_is_shown(
    make_clip: Make, spec: DecodeSpec, limits: DecodeLimits
) -> None:
    """In a recording of a whole multiplex, where another programme has the better sound."""
    tables = [
        {"mpegts_service_id": str(n), "mpegts_pmt_start_pid": str(pid), "mpegts_start_pid": str(pid + 1)}
        for n, pid in ((1, 0x1000), (2, 0x1100))
    ]
    shown = make_clip(name="1.ts", audio="mp2", layout="mono", rate_hz=32_000, container_options=tables[0])
    other = make_clip(name="2.ts", width=64, height=48, audio="mp2", container_options=tables[1])
    joined = shown.with_name("multiplex.ts")
    joined.write_bytes(_multiplex({1: 0x1000, 2: 0x1100}, shown.read_bytes(), other.read_bytes()))
    clip = decode_clip(joined, spec, limits)
    assert clip.visual.detail == "h264 96x64"
    assert clip.audio.detail == "mp2 32000 Hz"


def _multiplex(maps: dict[int, int], *streams: bytes) -> bytes:
    """Transport streams as one, with a table of the packets that describe each programme (ISO 13818-1)."""
    entries = b"".join(n.to_bytes(2) + (0xE000 | pid).to_bytes(2) for n, pid in maps.items())
    section = b"\0" + (0xB000 | len(entries) + 9).to_bytes(2) + b"\0\1\xc1\0\0" + entries
    table = b"\x47\x40\0\x10\0" + section + _crc32_mpeg(section).to_bytes(4)
    packets_of = [[stream[at : at + 188] for at in range(0, len(stream), 188)] for stream in streams]
    kept = [
        (number / len(cut), packet)
        for cut in packets_of
        for number, packet in enumerate(cut)
        if int.from_bytes(packet[1:3]) & 0x1FFF  # 0: the table of the stream itself
    ]
    return table.ljust(188, b"\xff") + b"".join(packet for _, packet in sorted(kept))


def _crc32_mpeg(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte << 24
        for _ in range(8):
            crc = (crc << 1 ^ (0x04C11DB7 if crc >> 31 else 0)) & 0xFFFFFFFF
    return crc


def test_sampling_middle_takes_the_frame_at_half_time(
    make_clip: Make, spec: DecodeSpec, limits: DecodeLimits
) -> None:
    """`middle` picks one frame, at half of the duration."""
    clip = decode_clip(make_clip(), replace(spec, n_frames=1, sampling="middle"), limits)
    np.testing.assert_allclose(clip.frame_times_s, [1.0], atol=1e-6)


@pytest.mark.parametrize(
    ("gop", "options", "n_at_most"),
    [(1, {}, 8), (30, {"bf": "0"}, 54), (30, {}, 45), (250, {"bf": "0"}, 57), (250, {}, 45)],
    ids=["intra", "30", "30 with B frames", "250", "250 with B frames"],
)
def test_no_more_frames_are_decoded_than_needed(
    gop: int, options: dict[str, str], n_at_most: int, make_clip: Make, spec: DecodeSpec, limits: DecodeLimits
) -> None:
    """Of 60 frames only the wanted ones and their references are, none after the last wanted one."""
    clip = decode_clip(make_clip(gop=gop, video_options=options), spec, limits)
    assert clip.n_frames_decoded <= n_at_most


def test_groups_without_a_wanted_frame_are_skipped(
    make_clip: Make, spec: DecodeSpec, limits: DecodeLimits
) -> None:
    """Two frames of 300 in groups of 30 need at most two groups."""
    path = make_clip(ticks=range(300), gop=30)
    assert decode_clip(path, replace(spec, n_frames=2), limits).n_frames_decoded <= 30


@pytest.mark.parametrize(
    "recipe",
    [{"audio": "aac"}, {"name": "c.avi", "codec": "rawvideo", "pix_fmt": "pal8"}],
    ids=["aac", "pal8"],
)
def test_a_second_demux_gives_the_same_frames_as_kept_packets(
    recipe: dict[str, Any],
    make_clip: Make,
    spec: DecodeSpec,
    limits: DecodeLimits,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A stream that is too large to keep in memory is read twice."""
    path = make_clip(**recipe)
    kept = decode_clip(path, spec, limits)
    monkeypatch.setattr(packets, "_KEEP_BYTES", 100)
    again = decode_clip(path, spec, limits)
    assert again.n_frames_decoded == kept.n_frames_decoded
    np.testing.assert_array_equal(again.frames, kept.frames)


def test_decoding_is_deterministic(make_clip: Make, spec: DecodeSpec, limits: DecodeLimits) -> None:
    """The same file gives the same bytes."""
    path = make_clip(audio="aac", gop=250)
    first, second = decode_clip(path, spec, limits), decode_clip(path, spec, limits)
    np.testing.assert_array_equal(first.frames, second.frames)
    np.testing.assert_array_equal(first.waveform, second.waveform)


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
def test_rotated_and_mirrored_clips_come_out_upright(
    degrees: int, mirrored: bool, make_clip: Make, spec: DecodeSpec, limits: DecodeLimits
) -> None:
    """The display matrix is applied: rotated counter-clockwise, then mirrored left to right."""
    plain = decode_clip(make_clip(), spec, limits).frames
    turned = decode_clip(make_clip(rotation=(degrees, mirrored)), spec, limits).frames
    assert plain is not None
    assert turned is not None
    expected = np.rot90(plain, degrees // 90, axes=(1, 2))
    expected = expected[:, :, ::-1] if mirrored else expected
    np.testing.assert_array_equal(turned, expected)


@pytest.mark.parametrize(
    ("name", "box"),
    [("wide.mkv", b""), ("wide.mp4", b""), ("wide.mp4", b"pasp")],
    ids=["mkv", "mp4", "mp4_without"],
)
def test_the_pixel_aspect_ratio_is_applied(
    name: str, box: bytes, make_clip: Make, spec: DecodeSpec, limits: DecodeLimits
) -> None:
    """64 x 64 pixels twice as wide as high are a 2:1 picture, whose centre square lacks both sides.

    Where the header lacks the ratio (in MP4 its box is optional), the coded frames tell it.
    """
    path = make_clip(width=64, height=64, pixel_aspect=Fraction(2), name=name)
    content = path.read_bytes()
    assert content.count(box or b"pasp") == (name == "wide.mp4")
    path.write_bytes(content.replace(box, b"free") if box else content)
    square = decode_clip(make_clip(width=64, height=64), spec, limits).frames
    wide = decode_clip(path, spec, limits).frames
    assert square is not None
    assert wide is not None
    # The bright corner covers the first quarter of each row: exactly what is cut off.
    assert square[:, 4, 4].mean() > 200
    assert wide[:, 4, 4].mean() < 200


def test_a_clip_with_too_few_frames_repeats_some(
    make_clip: Make, spec: DecodeSpec, limits: DecodeLimits
) -> None:
    """Three frames serve eight target times, each with the nearest."""
    clip = decode_clip(make_clip(ticks=range(3)), spec, limits)
    assert clip.frames is not None
    assert clip.frames.shape == (8, 32, 32, 3)
    assert len(np.unique(clip.frame_times_s)) == 3
    assert clip.duration_s == pytest.approx(0.1, abs=0.01)


def test_large_clips_fall_back_to_key_frames(make_clip: Make, spec: DecodeSpec, limits: DecodeLimits) -> None:
    """This happens, with a warning, when the pixel budget suffices for key frames only."""
    path = make_clip(ticks=range(120), gop=10, video_options={"bf": "0"})
    budget = replace(limits, max_decoded_pixels=12 * 96 * 64)
    clip = decode_clip(path, spec, budget)
    assert clip.n_frames_decoded <= 12
    assert any("key frames" in warning for warning in clip.warnings)
    assert clip.at_key_frames
    assert np.all(np.abs(clip.frame_times_s * 3 - np.round(clip.frame_times_s * 3)) < 1e-3)


def test_key_frames_are_decoded_on_request(make_clip: Make, spec: DecodeSpec, limits: DecodeLimits) -> None:
    """The nearest of 12 to each target time, without a warning."""
    path = make_clip(ticks=range(120), gop=10, video_options={"bf": "0"})
    exact, clip = decode_clip(path, spec, limits), decode_clip(path, replace(spec, frames="key"), limits)
    assert (exact.at_key_frames, clip.at_key_frames) == (False, True)
    assert clip.n_frames_decoded == 8
    assert exact.n_frames_decoded > 30
    key_times = np.arange(12) / 3
    targets = (np.arange(8) + 0.5) / 2
    nearest = key_times[np.abs(key_times[None] - targets[:, None]).argmin(axis=1)]
    np.testing.assert_allclose(clip.frame_times_s, nearest, atol=1e-3)
    assert clip.warnings == ()


def test_exact_frames_are_used_when_no_key_frames_are_marked(
    make_clip: Make, spec: DecodeSpec, limits: DecodeLimits, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A damaged file may mark none."""
    path = make_clip(ticks=range(20))
    exact = decode_clip(path, spec, limits)
    monkeypatch.setattr(video, "_keys", lambda timeline: np.zeros_like(timeline.is_key))
    clip = decode_clip(path, replace(spec, frames="key"), limits)
    np.testing.assert_array_equal(clip.frames, exact.frames)


@pytest.mark.parametrize(("width", "height"), [(160, 90), (90, 160), (64, 64), (24, 400)])
def test_squashed_frames_show_the_whole_picture(
    width: int, height: int, make_clip: Make, spec: DecodeSpec, limits: DecodeLimits
) -> None:
    """Both sides are scaled, as in PIL: nothing is cropped and the aspect ratio changes."""
    path = make_clip(width=width, height=height, ticks=range(3), video_options={"crf": "1"})
    clip = decode_clip(path, replace(spec, n_frames=3, resize="squash_bicubic"), limits)
    with av.open(str(path)) as container:
        images = [Image.fromarray(frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)]
    expected = np.stack([np.asarray(image.resize((32, 32), Image.Resampling.BICUBIC)) for image in images])
    assert clip.frames is not None
    assert np.abs(clip.frames.astype(float) - expected).mean() < 2


def test_squashed_frames_come_out_upright(make_clip: Make, spec: DecodeSpec, limits: DecodeLimits) -> None:
    """Rotating after squashing is correct, since the target is square."""
    spec = replace(spec, resize="squash_bicubic")
    plain, turned = (
        decode_clip(make_clip(), spec, limits),
        decode_clip(make_clip(name="turned.mp4", rotation=(90, False)), spec, limits),
    )
    assert plain.frames is not None
    assert turned.frames is not None
    np.testing.assert_array_equal(turned.frames, np.rot90(plain.frames, 1, axes=(1, 2)))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("resize", "mode", "interpolation"),
    [
        ("shorter_side_bicubic_center_crop", "shortest", "bicubic"),
        ("shorter_side_bilinear_center_crop", "shortest", "bilinear"),
        ("squash_bicubic", "squash", "bicubic"),
        ("squash_bilinear", "squash", "bilinear"),
    ],
)
def test_frames_agree_with_the_original_preprocessing(
    resize: Any, mode: Any, interpolation: Any, make_clip: Make, spec: DecodeSpec, limits: DecodeLimits
) -> None:
    """Scaling in FFmpeg differs from open_clip's own (PIL) by 1.5 levels at most.

    On average: PIL works on RGB at full size, FFmpeg on the stored planes, and their cubic kernels differ.
    """
    transform = pytest.importorskip("open_clip.transform").image_transform(
        224, is_train=False, mean=(0, 0, 0), std=(1, 1, 1), resize_mode=mode, interpolation=interpolation
    )
    path = make_clip(width=640, height=360, ticks=range(3))
    clip = decode_clip(path, replace(spec, n_frames=3, image_size_px=224, resize=resize), limits)
    with av.open(str(path)) as container:
        images = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    expected = np.stack(
        [transform(Image.fromarray(image)).permute(1, 2, 0).numpy() * 255 for image in images]
    )
    assert clip.frames is not None
    assert np.abs(clip.frames - expected).mean() < 1.5
