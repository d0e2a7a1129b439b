"""Audio windows: the same for the same clip, covering all of it."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.bundle.manifest import Padding
from service.encode.clip_features import audio_windows


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
