"""The mono waveform is the mean of all channels, in every sample format, in any layout."""

import wave
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import pytest

from service.decode import DecodePool, decode_clip
from service.decode.audio import Downmix
from service.errors import NoTracksError
from service.media import DecodeLimits, DecodeSpec
from tests.service.decode.clips import write_sound

Samples = npt.NDArray[np.float64]

RATE_HZ = 48_000
SPEC = DecodeSpec(n_frames=1, image_size_px=32, sample_rate_hz=RATE_HZ, max_audio_s=10.0)
LIMITS = DecodeLimits(max_duration_s=60.0)

# Sample format: numpy's type, the value of silence and that of full scale.
FORMATS = {
    "u8": (np.uint8, 128, 2**7),
    "s16": (np.int16, 0, 2**15),
    "s32": (np.int32, 0, 2**31),
    "flt": (np.float32, 0, 1),
    "dbl": (np.float64, 0, 1),
}
LAYOUTS = ["mono", "stereo", "FL+LFE", "2.1", "3 channels", "quad", "ambisonic 1", "5.1", "5.1(side)"]
LARGE_LAYOUTS = ["7.1", "9 channels", "hexadecagonal", "22.2", "64 channels"]
FRAMES = [(f"{name}{planar}", layout) for name in FORMATS for planar in ("", "p") for layout in LAYOUTS]
# PyAV makes no planar frames of so many channels.
FRAMES += [(name, layout) for name in FORMATS for layout in LARGE_LAYOUTS]

# What decoders put out, by file name and encoder: u8, s16, s16p, s32, s32p, flt, dbl and fltp.
CODECS = [
    ("s.wav", "pcm_u8", None),
    ("s.wav", "pcm_s16le", None),
    ("s.wav", "pcm_s24le", None),
    ("s.wav", "pcm_s32le", None),
    ("s.wav", "pcm_f32le", None),
    ("s.wav", "pcm_f64le", None),
    ("s.wav", "pcm_mulaw", None),
    ("s.wav", "adpcm_ima_wav", None),
    ("s.flac", "flac", "s16"),
    ("s.flac", "flac", "s32"),
    ("s.m4a", "alac", "s16p"),
    ("s.m4a", "alac", "s32p"),
    ("s.m4a", "aac", None),
    ("s.ogg", "libopus", None),
    ("s.mka", "mp2", None),
    ("s.mka", "ac3", None),
]


def noise(n_channels: int, n_samples: int = 4_800) -> Samples:
    """Different noise in every channel."""
    return np.random.default_rng(n_channels).uniform(-0.9, 0.9, (n_channels, n_samples))


def tone(n_channels: int, seconds: float = 1.0) -> Samples:
    """440 Hz with peak 0.9 in every channel."""
    time_s = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    return np.tile(0.9 * np.sin(2 * np.pi * 440 * time_s), (n_channels, 1))


def frame_of(samples: Samples, sample_format: str, layout: str) -> tuple[av.AudioFrame, Samples]:
    """A frame, and its samples rounded to its format."""
    kind, silence, full = FORMATS[sample_format.removesuffix("p")]
    stored = samples * full + silence
    stored = (stored if np.issubdtype(kind, np.floating) else np.round(stored)).astype(kind)
    packed = stored if sample_format.endswith("p") else stored.T.reshape(1, -1)
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(packed), sample_format, layout)
    frame.sample_rate, frame.pts, frame.time_base = RATE_HZ, 0, Fraction(1, RATE_HZ)
    return frame, (stored.astype(np.float64) - silence) / full


def mono(path: Path) -> npt.NDArray[np.float32]:
    """The waveform that the service decodes from a file."""
    waveform = decode_clip(path, SPEC, LIMITS).waveform
    assert waveform is not None
    return waveform


@pytest.mark.parametrize(("sample_format", "layout"), FRAMES)
def test_the_mix_is_the_mean_of_all_channels(sample_format: str, layout: str) -> None:
    """Exact to float32, not rounded to the 8 or 16 bits of the file, with equal weights."""
    frame, stored = frame_of(noise(av.AudioLayout(layout).nb_channels), sample_format, layout)
    downmix = Downmix(frame, RATE_HZ)
    mixed = np.concatenate([*downmix.add(frame), *downmix.flush()])
    assert mixed.dtype == np.float32
    np.testing.assert_allclose(mixed, stored.mean(axis=0), atol=2e-7)


@pytest.mark.parametrize(("name", "codec", "sample_format"), CODECS)
def test_mono_is_as_loud_as_equal_stereo_channels(
    name: str, codec: str, sample_format: str | None, tmp_path: Path
) -> None:
    """With 0.707 (left + right) a peak of 0.9 would become 1.27 and clip."""
    path = write_sound(
        tmp_path / name, tone(2), codec, layout="stereo", rate_hz=RATE_HZ, sample_format=sample_format
    )
    middle = mono(path)[12_000:36_000]
    assert np.sqrt(2 * np.mean(middle**2)) == pytest.approx(0.9, rel=0.01)
    assert np.abs(middle).max() == pytest.approx(0.9, abs=0.03)


@pytest.mark.parametrize(
    "layout", ["mono", "stereo", "2.1", "3 channels", "5.1", "7.1", "9 channels", "22.2"]
)
def test_files_of_any_layout_are_mixed_to_their_mean(layout: str, tmp_path: Path) -> None:
    """Without resampling the waveform is the mean, sample for sample."""
    samples = noise(av.AudioLayout(layout).nb_channels)
    path = write_sound(tmp_path / "s.wav", samples, "pcm_f32le", layout=layout, rate_hz=RATE_HZ)
    np.testing.assert_allclose(mono(path), samples.mean(axis=0), atol=2e-7)


@pytest.mark.parametrize(("codec", "layout"), [("alac", "5.1"), ("alac", "7.1(wide)")])
def test_planar_files_of_many_channels_are_mixed_to_their_mean(
    codec: str, layout: str, tmp_path: Path
) -> None:
    """Up to eight planes, as decoders return them."""
    samples = noise(av.AudioLayout(layout).nb_channels)
    path = write_sound(
        tmp_path / "s.m4a", samples, codec, layout=layout, rate_hz=RATE_HZ, sample_format="s16p"
    )
    np.testing.assert_allclose(mono(path), samples.mean(axis=0), atol=1.1 / 2**15)


@pytest.mark.parametrize(("codec", "suffix"), [("aac", ".aac"), ("mp2", ".ts"), ("ac3", ".ac3")])
@pytest.mark.parametrize("layouts", [("mono", "stereo"), ("stereo", "mono")])
def test_a_stream_that_changes_its_layout_keeps_its_level(
    codec: str, suffix: str, layouts: tuple[str, str], tmp_path: Path
) -> None:
    """Broadcasts change layouts between programmes; both halves must be decoded."""
    content = b""
    for layout in layouts:
        samples = tone(av.AudioLayout(layout).nb_channels)
        part = write_sound(tmp_path / f"{layout}{suffix}", samples, codec, layout=layout, rate_hz=RATE_HZ)
        content += part.read_bytes()
    path = tmp_path / f"both{suffix}"
    path.write_bytes(content)
    waveform = mono(path)
    assert len(waveform) == pytest.approx(2 * RATE_HZ, abs=0.1 * RATE_HZ)
    for half in (waveform[12_000:36_000], waveform[-36_000:-12_000]):
        assert np.sqrt(2 * np.mean(half**2)) == pytest.approx(0.9, rel=0.01)


def test_a_custom_channel_order_is_mixed_to_the_mean(tmp_path: Path) -> None:
    """MPEG 5.1 B (L R Ls Rs C LFE) in QuickTime, whose channel list PyAV would free twice."""
    samples = noise(6)
    path = write_sound(tmp_path / "s.mov", samples, "pcm_s16le", layout="5.1", rate_hz=RATE_HZ)
    content = bytearray(path.read_bytes())
    tag = content.index(b"chan") + 8  # after the atom's version and flags
    content[tag : tag + 4] = ((122 << 16) | 6).to_bytes(4, "big")
    path.write_bytes(content)
    with DecodePool(LIMITS, n_workers=1) as pool:  # it would end this process
        pool.start()
        waveform = pool.decode(path, SPEC).waveform
    assert waveform is not None
    np.testing.assert_allclose(waveform, samples.mean(axis=0), atol=1.1 / 2**15)


@pytest.mark.parametrize("n_channels", [65, 300])
def test_too_many_channels_are_reported_as_unusable(n_channels: int, tmp_path: Path) -> None:
    """A typed error, not one of FFmpeg."""
    with wave.open(str(tmp_path / "s.wav"), "wb") as file:
        file.setnchannels(n_channels)
        file.setsampwidth(2)
        file.setframerate(RATE_HZ)
        file.writeframes(np.full(n_channels * 4_800, 9_000, "<i2").tobytes())
    with pytest.raises(NoTracksError, match="the sound is damaged, encrypted or not supported"):
        decode_clip(tmp_path / "s.wav", SPEC, LIMITS)
