"""Every real and hostile file of the shared collection, through one pool that has to survive them all."""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest

from service.decode import DecodePool
from service.errors import MediaError
from service.media import Clip, DecodeLimits, DecodeSpec

MEDIA = Path(__file__).parents[4] / "shared" / "media"
FILES = sorted(path for path in MEDIA.rglob("*") if path.is_file()) if MEDIA.is_dir() else []
# The quick part reads every fourth file.
CASES = [
    path if index % 4 == 0 else pytest.param(path, marks=pytest.mark.slow) for index, path in enumerate(FILES)
]
SPEC = DecodeSpec(n_frames=4, image_size_px=64, sample_rate_hz=16_000, max_audio_s=30.0)
LIMITS = DecodeLimits(max_duration_s=400.0, max_decoded_pixels=1_000_000_000, processor_time_s=15.0)

pytestmark = pytest.mark.skipif(not FILES, reason="the shared media collection is not here")

NOT_CLIPS = (
    "hostile/playlists/",
    "hostile/hls_localread/",
    "hostile/hls_dir/playlist.m3u8",
)
# No decoder, no bytes, or too few samples to be heard.
NOTHING_IN_THEM = (
    "Twinkle.mid",
    "sample_ac4.mp4",
    "mpegh_mhm1.mp4",
    "moviepy_empty.webm",
    "amr_nb_1f.3gp",
    "20_repeating_1_samples.wav",
)


@pytest.fixture(scope="module")
def pool() -> Iterator[DecodePool]:
    """One pool for all files."""
    with DecodePool(LIMITS, n_workers=2) as pool:
        pool.start()
        yield pool


def name_of(path: Path) -> str:
    """The file's name in the collection."""
    return path.relative_to(MEDIA).as_posix()


@pytest.mark.parametrize("path", CASES, ids=name_of)
def test_every_file_gives_a_clip_or_a_typed_error(path: Path, pool: DecodePool) -> None:
    """No other exception and no crashed process; real clips work and other files do not."""
    name = name_of(path)
    result = clip_or_error(path, pool)
    if isinstance(result, Clip):
        check(result)
        assert not name.startswith(NOT_CLIPS)
        assert not name.endswith(NOTHING_IN_THEM)
    else:
        assert result.code not in {"decode_failed", "decode_timeout", "media_error"}
        assert path.name not in result.message
        assert not name.startswith("clips/") or name.endswith(NOTHING_IN_THEM)


def clip_or_error(path: Path, pool: DecodePool) -> Clip | MediaError:
    """What came of a file; anything but these two fails the test."""
    try:
        return pool.decode(path, SPEC)
    except MediaError as error:
        return error


def check(clip: Clip) -> None:
    """What holds for every clip."""
    assert clip.visual.used == (clip.frames is not None)
    assert clip.audio.used == (clip.waveform is not None)
    assert clip.visual.used or clip.audio.used
    assert 0 <= clip.duration_s <= LIMITS.max_duration_s + 1
    assert (clip.duration_s == 0) == clip.visual.detail.endswith("a still image")
    json.dumps([clip.visual.detail, clip.audio.detail, clip.warnings])
    if clip.frames is not None:
        assert clip.frames.shape == (4, 64, 64, 3)
        assert len(clip.frame_times_s) == 4
        assert np.all(np.diff(clip.frame_times_s) >= 0)
    if clip.waveform is not None:
        assert 0 < len(clip.waveform) <= 30 * 16_000
        assert np.abs(clip.waveform).max() <= 1.0


@pytest.mark.slow
@pytest.mark.parametrize("path", FILES[::4], ids=name_of)
def test_segments_change_nothing_else_for_any_file(path: Path, pool: DecodePool) -> None:
    """The result is the same error, or the same clip with segments from its start to its end."""
    plain = clip_or_error(path, pool)
    if not isinstance(plain, Clip):
        with pytest.raises(type(plain), match=re.escape(plain.message)):
            pool.decode(path, replace(SPEC, segment_s=10.0))
        return
    clip = pool.decode(path, replace(SPEC, segment_s=10.0))
    for name in ("frames", "waveform"):
        np.testing.assert_array_equal(getattr(clip, name), getattr(plain, name))
    assert (clip.duration_s, clip.visual, clip.audio) == (plain.duration_s, plain.visual, plain.audio)
    if clip.duration_s == 0:  # a still image
        assert clip.segments == ()
        return
    assert clip.segments[0].start_s == 0
    assert clip.segments[-1].end_s == clip.duration_s


def shared(name: str) -> Path:
    """A file of the collection."""
    return MEDIA / "clips" / name


def test_a_rotated_phone_clip_comes_out_upright(pool: DecodePool) -> None:
    """A keyboard filmed with the camera on its side: the letters are upright after a turn clockwise."""
    path = shared("decord_rotation_90.mov")
    with av.open(str(path)) as container:
        stored = next(container.decode(video=0)).to_ndarray(format="rgb24")
    square = stored[:, (568 - 320) // 2 : (568 + 320) // 2]
    small = square.reshape(64, 5, 64, 5, 3).mean(axis=(1, 3))
    frames = pool.decode(path, SPEC).frames
    assert frames is not None
    likeness = [np.corrcoef(frames[0].ravel(), np.rot90(small, k).ravel())[0, 1] for k in range(4)]
    assert int(np.argmax(likeness)) == 3
    assert likeness[3] > 0.85


@pytest.mark.parametrize(
    ("name", "visual", "audio"),
    [
        ("androidx_bear_with_picture.flac", "no_stream", None),
        ("androidx_sample_audio_only.mp4", "no_stream", None),
        ("androidx_sample_video_only.mp4", None, "no_stream"),
        ("intel_car-detection.mp4", None, "silent"),
        ("imageio_cockatoo.mp4", None, "silent"),
        ("moviepy_chaplin.mp4", None, None),
        ("androidx_sample_empty_track.mp4", None, None),
        ("imageio_newtonscradle.gif", None, "no_stream"),
        ("torchcodec_nasa_13013.mp4", None, None),
    ],
)
def test_unused_tracks_are_reported_with_a_reason(
    name: str, visual: str | None, audio: str | None, pool: DecodePool
) -> None:
    """Checked on files whose tracks are known."""
    clip = pool.decode(shared(name), SPEC)
    assert (clip.visual.reason, clip.audio.reason) == (visual, audio)


def test_a_long_4k_clip_falls_back_to_key_frames(pool: DecodePool) -> None:
    """The file has 22,000 frames of 4K in 1.1 MB; eight are needed."""
    clip = pool.decode(shared("androidx_long_4k_av1.mp4"), SPEC)
    assert clip.n_frames_decoded <= 8
    assert any("key frames" in warning for warning in clip.warnings)


def test_the_duration_is_measured_when_the_header_has_none(pool: DecodePool) -> None:
    """WebM files of browser recorders have none."""
    assert pool.decode(shared("moviepy_no_duration.webm"), SPEC).duration_s == pytest.approx(4.94, abs=0.1)
