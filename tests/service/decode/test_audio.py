"""Audio is decoded to mono at the wanted rate and in its full length; unusable audio is reported."""

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from av.audio.frame import AudioFrame

from service.decode import decode_clip
from service.decode.audio import Excerpt
from service.decode.container import Damage
from service.errors import NoTracksError
from service.media import DecodeLimits, DecodeSpec
from tests.service.decode.conftest import Make

CONTAINERS = [
    ("s.wav", "pcm_s16le"),
    ("s.flac", "flac"),
    ("s.mp3", "libmp3lame"),
    ("s.m4a", "aac"),
]


@pytest.mark.parametrize(("name", "codec"), CONTAINERS)
def test_a_tone_keeps_its_pitch_level_and_length(
    name: str, codec: str, make_clip: Make, spec: DecodeSpec, limits: DecodeLimits
) -> None:
    """A tone of 440 Hz at half scale is resampled; its length may differ by the padding of the codec."""
    clip = decode_clip(make_clip(name=name, codec=None, audio=codec), spec, limits)
    wave = clip.waveform
    assert wave is not None
    assert wave.dtype == np.float32
    assert len(wave) == pytest.approx(2 * 16_000, abs=2_000)
    middle = wave[8_000:24_000]
    assert int(np.abs(np.fft.rfft(middle)).argmax()) == 440
    assert float(np.sqrt(np.mean(middle**2))) == pytest.approx(0.5 / np.sqrt(2), rel=0.05)
    assert clip.frames is None
    assert clip.visual.reason == "no_stream"
    assert clip.duration_s == pytest.approx(2.0, abs=0.15)


@pytest.mark.parametrize(("name", "codec"), [("s.wav", "g726"), ("s.au", "g726le")])
def test_a_recording_of_a_telephone_is_read(
    name: str, codec: str, make_clip: Make, spec: DecodeSpec, limits: DecodeLimits
) -> None:
    """Of G.726 FFmpeg names the decoder otherwise than the codec, and has one for each order of bits."""
    path = make_clip(name=name, codec=None, audio=codec, layout="mono", rate_hz=8_000)
    clip = decode_clip(path, spec, limits)
    assert clip.waveform is not None
    assert int(np.abs(np.fft.rfft(clip.waveform[8_000:24_000])).argmax()) == 440


def test_both_tracks_of_an_ordinary_clip_are_used(
    make_clip: Make, spec: DecodeSpec, limits: DecodeLimits
) -> None:
    """There are no warnings."""
    clip = decode_clip(make_clip(audio="aac"), spec, limits)
    assert clip.frames is not None
    assert clip.waveform is not None
    assert (clip.visual.used, clip.audio.used, clip.warnings) == (True, True, ())


def test_a_missing_audio_stream_is_reported(make_clip: Make, spec: DecodeSpec, limits: DecodeLimits) -> None:
    """It is not an error."""
    clip = decode_clip(make_clip(), spec, limits)
    assert clip.waveform is None
    assert (clip.audio.used, clip.audio.reason) == (False, "no_stream")


@pytest.mark.parametrize("codec", ["aac", "libmp3lame"])
def test_digital_silence_is_not_used(
    codec: str, make_clip: Make, spec: DecodeSpec, limits: DecodeLimits
) -> None:
    """A silent track is reported and not encoded."""
    clip = decode_clip(make_clip(audio=codec, tone_hz=0), spec, limits)
    assert clip.waveform is None
    assert (clip.audio.used, clip.audio.reason) == (False, "silent")
    assert clip.audio.detail == "digital silence"


def test_a_clip_with_only_silence_is_an_error(
    make_clip: Make, spec: DecodeSpec, limits: DecodeLimits
) -> None:
    """The message gives the reason for each track."""
    path = make_clip(name="s.wav", codec=None, audio="pcm_s16le", tone_hz=0)
    with pytest.raises(NoTracksError, match=r"no video stream.*digital silence"):
        decode_clip(path, spec, limits)


def test_audio_is_cut_at_the_maximum_length(make_clip: Make, spec: DecodeSpec, limits: DecodeLimits) -> None:
    """A warning says so."""
    path = make_clip(name="s.flac", codec=None, audio="flac", audio_s=5.0)
    clip = decode_clip(path, replace(spec, max_audio_s=1.5), limits)
    assert clip.waveform is not None
    assert len(clip.waveform) == 24_000
    assert any("1.5 seconds" in warning for warning in clip.warnings)


def test_joining_the_samples_takes_little_more_memory_than_they_do() -> None:
    """Of an hour of sound for segments the rest would exceed the limit; what is no number is heard as 0."""
    frame = AudioFrame.from_ndarray(np.full((1, 48_000), np.nan, np.float32), "flt", "mono")
    frame.sample_rate = 48_000
    excerpt = Excerpt(0.0, 60 * 48_000, 48_000, Damage())
    for second in range(60):
        excerpt.add(frame, second)
    tracemalloc.start()
    samples = excerpt.samples()
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (len(samples), np.abs(samples).max()) == (60 * 48_000, 0)
    assert peak_bytes < 1.1 * samples.nbytes


def test_audio_at_the_wanted_rate_is_not_resampled(
    make_clip: Make, spec: DecodeSpec, limits: DecodeLimits
) -> None:
    """The samples are those of the file."""
    path = make_clip(name="s.wav", codec=None, audio="pcm_f32le", audio_s=0.5)
    clip = decode_clip(path, replace(spec, sample_rate_hz=44_100), limits)
    expected = 0.5 * np.sin(2 * np.pi * 440 * np.arange(22_050) / 44_100)
    assert clip.waveform is not None
    np.testing.assert_allclose(clip.waveform, expected, atol=1e-6)
