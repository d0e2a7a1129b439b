"""Moments of clips' features: against numpy, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from model_export.errors import DatasetError
from model_export.extract.moments import MIN_CLIPS, fit
from service.arrays import Array
from service.encode.features import ClipFeatures, unit

SOURCE = Path("clips")


def _features(n: int, dim: int, seed: int) -> Array:
    """Unit rows that vary in each direction more than in the one before."""
    rows = np.random.default_rng(seed).normal(0.3, np.arange(1, dim + 1), size=(n, dim))
    return unit(rows.astype(np.float32))


def test_moments_are_those_of_the_clips_that_have_the_track() -> None:
    """Of many clips the shrinkage is slight, so numpy's covariance is nearly found."""
    visual, audio = _features(3000, 4, 0), _features(2000, 3, 1)
    clips = [ClipFeatures(row, None) for row in visual[2000:]]
    clips += [ClipFeatures(v, a) for v, a in zip(visual[:2000], audio, strict=True)]
    found = fit(clips, SOURCE)
    np.testing.assert_allclose(found.visual_mean, visual.mean(axis=0), atol=1e-5)
    np.testing.assert_allclose(found.audio_mean, audio.mean(axis=0), atol=1e-5)
    np.testing.assert_allclose(found.visual_covariance, np.cov(visual.T, bias=True), atol=2e-3)
    np.testing.assert_allclose(found.audio_covariance, np.cov(audio.T, bias=True), atol=2e-3)


def test_moments_of_few_clips_have_variance_in_every_direction() -> None:
    """Fewer clips than dimensions: the plain covariance would be singular."""
    clips = [ClipFeatures(v, a) for v, a in zip(_features(20, 64, 2), _features(20, 64, 3), strict=True)]
    found = fit(clips, SOURCE)
    assert np.linalg.eigvalsh(found.visual_covariance).min() > 1e-4


def test_moments_of_too_few_clips_with_a_track_are_refused() -> None:
    """Every lack is told at once."""
    row = _features(1, 4, 0)[0]
    clips = [ClipFeatures(row, None)] * MIN_CLIPS
    with pytest.raises(
        DatasetError, match=r"0 of its clips have an audio track; at least 20 are needed"
    ) as caught:
        fit(clips, SOURCE)
    assert "visual" not in str(caught.value)
    with pytest.raises(
        DatasetError, match=r"19 of its clips have a visual track(.|\n)*0 of its clips have an audio track"
    ):
        fit(clips[1:], SOURCE)
