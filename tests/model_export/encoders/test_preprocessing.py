"""Our frames and windows beside those of the original packages, on clips made here and on real ones.

docs/encoders.md says how they differ; these tests hold it to that.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import reduce
from pathlib import Path
from typing import Any

import av
import librosa
import numpy as np
import pytest
from numpy.typing import NDArray
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from scipy.io import wavfile

from model_export.export.quiet import quiet
from service.decode import decode_clip
from service.encode.windows import audio_windows
from service.media import RESIZE_RULES, DecodeLimits, DecodeSpec, Resize
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
SPEC = DecodeSpec(4, 224, RATE_HZ, 1.0)


def _at_full_size(path: Path, times_s: NDArray[np.float64]) -> list[Image.Image]:
    """The frames at those times through PyAV and PIL."""
    with av.open(str(path)) as source:
        frames: Any = {frame.time: frame.to_image() for frame in source.decode(video=0)}  # type: ignore[no-untyped-call]
    first = min(frames)
    return [frames[min(frames, key=lambda stamp: abs(stamp - first - time_s))] for time_s in times_s]


def _original(resize: Resize) -> Callable[[Image.Image], Image.Image]:
    """What open_clip does to a picture before it is a tensor."""
    shape, interpolation = RESIZE_RULES[resize]
    mode: Any = {"shorter_side": "shortest", "squash": "squash"}[shape]
    wanted = PreprocessCfg(size=224, interpolation=interpolation, resize_mode=mode)
    steps = image_transform_v2(wanted, is_train=False).transforms[:-2]  # the last two: tensor, mean
    return lambda picture: reduce(lambda made, step: step(made), steps, picture)


def _differences(path: Path) -> dict[Resize, float]:
    """Mean absolute difference in levels of 255, for each way in which frames become square."""
    pictures = _at_full_size(path, decode_clip(path, SPEC, DecodeLimits()).frame_times_s)
    differences: dict[Resize, float] = {}
    for resize in RESIZE_RULES:
        clip = decode_clip(path, replace(SPEC, resize=resize), DecodeLimits())
        theirs = np.stack([np.asarray(_original(resize)(picture), np.int16) for picture in pictures])
        assert clip.frames is not None
        differences[resize] = float(np.abs(clip.frames - theirs).mean())
    return differences


def test_frames_of_a_generated_clip(tmp_path: Path) -> None:
    """Less than two levels of 255 on average."""
    assert max(_differences(make(Recipe(), tmp_path)).values()) < 2


@pytest.mark.parametrize("path", REAL, ids=lambda path: path.name)
def test_frames_of_real_clips(path: Path) -> None:
    """We scale in YUV and convert exactly; PyAV converts coarsely, and PIL scales in RGB."""
    if not path.is_file():
        pytest.skip(f"{path.name} is not here")
    assert max(_differences(path).values()) < 2


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
