"""Our frames and windows beside those of the original packages, on clips made here and on real ones.

docs/encoders.md says how they differ; these tests hold it to that.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import librosa
import numpy as np
import pytest
from numpy.typing import NDArray
from open_clip.transform import PreprocessCfg, image_transform_v2
from scipy.io import wavfile

from model_export.export.quiet import quiet
from service.decode import decode_clip
from service.encode.windows import audio_windows
from service.media import DecodeLimits, DecodeSpec
from tests.model_export.encoders.original_laion import padded
from tests.service.decode.clips import Recipe, make

SHARED = Path(__file__).parents[4] / "shared" / "media" / "clips"
EXAMPLES = Path(__file__).parents[3] / "examples"
REAL = [
    SHARED / "ffwasm_video-1s.mp4",
    SHARED / "mdn_frog.webm",
    SHARED / "imageio_cockatoo.mp4",
    SHARED / "decord_flipping_a_pancake.mkv",
    EXAMPLES / "heart-with-a-chime.mp4",
]
RATE_HZ, WINDOW = 48_000, 480_000


def _theirs(path: Path, times_s: NDArray[np.float64]) -> NDArray[np.int16]:
    """The same frames at full size through PyAV and PIL, resized and cropped by open_clip's transform."""
    resize_and_crop = image_transform_v2(PreprocessCfg(size=224), is_train=False).transforms[:2]
    with av.open(str(path)) as source:
        frames: Any = {frame.time: frame.to_image() for frame in source.decode(video=0)}  # type: ignore[no-untyped-call]
    first = min(frames)
    pictures = [frames[min(frames, key=lambda stamp: abs(stamp - first - time_s))] for time_s in times_s]
    for step in resize_and_crop:
        pictures = [step(picture) for picture in pictures]
    return np.stack([np.asarray(picture, np.int16) for picture in pictures])


def _difference(path: Path) -> float:
    """Mean absolute difference in levels of 255."""
    clip = decode_clip(path, DecodeSpec(4, 224, RATE_HZ, 1.0), DecodeLimits())
    assert clip.frames is not None
    return float(np.abs(clip.frames - _theirs(path, clip.frame_times_s)).mean())


def test_frames_of_a_generated_clip(tmp_path: Path) -> None:
    """Less than two levels of 255 on average."""
    assert _difference(make(Recipe(), tmp_path)) < 2


@pytest.mark.parametrize("path", REAL, ids=lambda path: path.name)
def test_frames_of_real_clips(path: Path) -> None:
    """We scale in YUV and convert exactly; PyAV converts coarsely, and PIL scales in RGB."""
    if not path.is_file():
        pytest.skip(f"{path.name} is not here")
    assert _difference(path) < 2


def _windows(sound: NDArray[np.float32]) -> NDArray[np.float32]:
    return audio_windows(sound, window=WINDOW, hop=WINDOW, padding="repeat")


@pytest.mark.parametrize("seconds", [0.3, 1, 3, 4.9, 7, 9.99])
def test_short_sounds_are_repeated_as_laion_repeats_them(seconds: float) -> None:
    """Only the rest, too short for another repetition, is silence there and the sound's beginning here."""
    sound = np.random.default_rng(0).normal(0, 0.1, round(seconds * RATE_HZ)).astype(np.float32)
    ours, theirs = _windows(sound)[0], padded(sound)
    whole = WINDOW // len(sound) * len(sound)
    assert np.array_equal(ours[:whole], theirs[:whole])
    assert np.array_equal(theirs[whole:], np.zeros(WINDOW - whole))
    assert np.array_equal(ours[whole:], sound[: WINDOW - whole])


def test_ten_seconds_are_the_same() -> None:
    """Neither cut nor filled."""
    sound = np.random.default_rng(0).normal(0, 0.1, WINDOW).astype(np.float32)
    assert np.array_equal(_windows(sound)[0], padded(sound))


@pytest.mark.parametrize("path", REAL, ids=lambda path: path.name)
def test_windows_of_real_clips(path: Path) -> None:
    """The same law on sound that was decoded from files."""
    if not path.is_file():
        pytest.skip(f"{path.name} is not here")
    sound = decode_clip(path, DecodeSpec(1, 32, RATE_HZ, 10.0), DecodeLimits()).waveform
    if sound is None:
        pytest.skip(f"{path.name} has no sound")
    whole = WINDOW // len(sound) * len(sound)
    assert np.array_equal(_windows(sound)[0, :whole], padded(sound)[:whole])


def test_sound_is_resampled_as_librosa_resamples_it(tmp_path: Path) -> None:
    """laion_clap loads files with librosa; the difference is at least 60 dB below the sound."""
    time_s = np.arange(2 * 44_100) / 44_100
    tones = np.sum([np.sin(2 * np.pi * hz * time_s + hz) for hz in (110, 440, 1_000, 5_000, 12_000)], axis=0)
    wavfile.write(tmp_path / "a.wav", 44_100, (0.15 * tones).astype(np.float32))
    ours = decode_clip(tmp_path / "a.wav", DecodeSpec(1, 32, RATE_HZ, 10.0), DecodeLimits()).waveform
    with quiet():
        theirs, _ = librosa.load(tmp_path / "a.wav", sr=RATE_HZ)
    assert ours is not None
    n = min(len(ours), len(theirs))
    assert abs(len(ours) - len(theirs)) <= 1
    inner = slice(1000, n - 1000)  # both filters have an onset
    noise = np.mean((ours[inner] - theirs[inner]) ** 2) / np.mean(theirs[inner] ** 2)
    assert 10 * np.log10(noise) < -60
