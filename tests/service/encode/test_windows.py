"""Audio windows: the same for the same clip, covering all of it."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.bundle.directory import read_manifest
from service.bundle.manifest import Padding
from service.classifier import decode_spec
from service.encode.clip_features import audio_windows
from service.options import ClassifyOptions


@given(n=st.integers(1, 400), window=st.integers(1, 100), hop=st.integers(1, 100))
def test_windows_are_full_and_cover_the_clip(n: int, window: int, hop: int) -> None:
    """Window i starts at i * hop and the last one ends with the clip, unless the remainder is tiny."""
    hop = min(hop, window)
    wave = np.arange(1, n + 1, dtype=np.float32)
    windows = np.stack(audio_windows(wave, window=window, hop=hop, padding="zero"))
    if n < window:
        assert windows.tolist() == [[*wave.tolist(), *[0.0] * (window - n)]]
        return
    assert all(np.array_equal(row, np.arange(row[0], row[0] + window)) for row in windows)
    assert windows[:-1, 0].tolist() == [1.0 + index * hop for index in range(len(windows) - 1)]
    rest = n - windows[-1, -1]
    assert 0 <= rest <= window / 100
    assert set(wave[: n - int(rest)].tolist()) <= set(windows.ravel().tolist())


def test_codec_padding_costs_no_window() -> None:
    """AAC decodes 10 s of audio to up to 0.1 s more."""
    assert (
        len(audio_windows(np.ones(480_000 + 4_800, np.float32), window=480_000, hop=480_000, padding="zero"))
        == 1
    )
    assert (
        len(audio_windows(np.ones(480_000 + 4_801, np.float32), window=480_000, hop=480_000, padding="zero"))
        == 2
    )


@pytest.mark.parametrize(
    ("padding", "expected"),
    [
        ("repeat_whole", [1, 2, 3, 1, 2, 3, 0, 0]),
        ("repeat", [1, 2, 3, 1, 2, 3, 1, 2]),
        ("zero", [1, 2, 3, 0, 0, 0, 0, 0]),
    ],
)
def test_a_short_waveform_is_padded(padding: Padding, expected: list[int]) -> None:
    """By whole repetitions, by repetitions up to the end, or by zeros, as the bundle says."""
    wave = np.array([1, 2, 3], np.float32)
    windows = np.stack(audio_windows(wave, window=8, hop=8, padding=padding))
    assert windows.dtype == np.float32
    assert windows.tolist() == [expected]


@given(n=st.integers(1, 99), window=st.integers(100, 300))
def test_repeat_whole_uses_as_many_whole_repetitions_as_fit(n: int, window: int) -> None:
    """No repetition is truncated, and the zeros are shorter than one more repetition."""
    wave = np.arange(1, n + 1, dtype=np.float32)
    (filled,) = audio_windows(wave, window=window, hop=window, padding="repeat_whole")
    n_heard = int(np.count_nonzero(filled))
    assert n_heard % n == 0
    assert window - n_heard < n
    assert np.array_equal(filled[:n_heard], np.tile(wave, n_heard // n))


@pytest.mark.parametrize("padding", get_args(Padding))
@pytest.mark.parametrize("n", [8, 9, 16])
def test_padding_does_not_change_a_long_waveform(padding: Padding, n: int) -> None:
    """Every value of `padding` gives the same windows."""
    wave = np.arange(1, n + 1, dtype=np.float32)
    windows = np.stack(audio_windows(wave, window=8, hop=8, padding=padding))
    assert windows.all()
    assert np.array_equal(windows[0], wave[:8])
    assert np.array_equal(windows[-1], wave[-8:])


def test_windows_of_a_long_waveform_are_views() -> None:
    """An hour of sound is not in memory twice."""
    wave = np.zeros(1_000, np.float32)
    assert all(np.shares_memory(one, wave) for one in audio_windows(wave, window=90, hop=90, padding="zero"))


@pytest.mark.parametrize(
    ("window_s", "max_s", "asked", "n_windows", "longest_s"),
    [
        (5.0, 600.0, None, 12, 60),
        (8.0, 600.0, None, 8, 64),  # the last one of a minute is not full by itself
        (5.0, 600.0, 3, 3, 15),
        (5.0, 600.0, 1000, 120, 600),
        (5.0, 30.0, None, 6, 30),
        (5.0, 30.0, 8, 6, 30),
        (5.0, 4.0, 2, 1, 5),
    ],
)
def test_longer_sound_is_heard_in_as_many_windows_as_a_minute_has(
    window_s: float, max_s: float, asked: int | None, n_windows: int, longest_s: float, toy_bundle: Path
) -> None:
    """Or as are asked for, and never in more than the bundle takes; what these hold is used whole."""
    manifest = read_manifest(toy_bundle)
    audio = manifest.audio.model_copy(update={"window_s": window_s, "hop_s": window_s, "max_s": max_s})
    spec = decode_spec(manifest.model_copy(update={"audio": audio}), ClassifyOptions(audio_windows=asked))
    assert (spec.n_windows, spec.max_audio_s, spec.window_s) == (n_windows, longest_s, window_s)
