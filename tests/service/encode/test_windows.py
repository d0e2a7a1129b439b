"""Audio windows: the same for the same clip, covering all of it."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.bundle.manifest import Padding
from service.encode.clip import audio_windows


@given(n=st.integers(1, 400), window=st.integers(1, 100), hop=st.integers(1, 100))
def test_windows_are_full_and_cover_the_clip(n: int, window: int, hop: int) -> None:
    """Window i starts at i*hop, the last one ends at the end, but for a rest that is not worth one."""
    hop = min(hop, window)
    wave = np.arange(1, n + 1, dtype=np.float32)
    windows = audio_windows(wave, window=window, hop=hop, padding="zero")
    if n < window:
        assert windows.tolist() == [[*wave.tolist(), *[0.0] * (window - n)]]
        return
    assert all(np.array_equal(row, np.arange(row[0], row[0] + window)) for row in windows)
    assert windows[:-1, 0].tolist() == [1.0 + index * hop for index in range(len(windows) - 1)]
    rest = n - windows[-1, -1]
    assert 0 <= rest <= window / 100
    assert set(wave[: n - int(rest)].tolist()) <= set(windows.ravel().tolist())


def test_a_rest_that_a_codec_made_costs_no_window() -> None:
    """10 s of sound come out of AAC with up to 0.1 s more."""
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
def test_a_short_wave_is_filled(padding: Padding, expected: list[int]) -> None:
    """By repeating itself, whole or to the end, or by zeros, as the bundle says."""
    wave = np.array([1, 2, 3], np.float32)
    windows = audio_windows(wave, window=8, hop=8, padding=padding)
    assert windows.dtype == np.float32
    assert windows.tolist() == [expected]


@given(n=st.integers(1, 99), window=st.integers(100, 300))
def test_a_wave_is_repeated_whole_as_often_as_it_fits(n: int, window: int) -> None:
    """Never a part of it, and less silence than one more time would take."""
    wave = np.arange(1, n + 1, dtype=np.float32)
    (filled,) = audio_windows(wave, window=window, hop=window, padding="repeat_whole")
    n_heard = int(np.count_nonzero(filled))
    assert n_heard % n == 0
    assert window - n_heard < n
    assert np.array_equal(filled[:n_heard], np.tile(wave, n_heard // n))


@pytest.mark.parametrize("padding", get_args(Padding))
@pytest.mark.parametrize("n", [8, 9, 16])
def test_a_wave_that_fills_its_windows_is_not_filled(padding: Padding, n: int) -> None:
    """Whatever the bundle says."""
    wave = np.arange(1, n + 1, dtype=np.float32)
    windows = audio_windows(wave, window=8, hop=8, padding=padding)
    assert windows.all()
    assert np.array_equal(windows[0], wave[:8])
    assert np.array_equal(windows[-1], wave[-8:])
