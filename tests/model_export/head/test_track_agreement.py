"""The agreement score is fitted to clips and to the same clips with other sounds."""

from __future__ import annotations

import numpy as np
import pytest

from model_export.head.metrics import auroc
from model_export.head.track_agreement import factors, fit_score, others
from service.head.agreement import Overlap


def _similarities(strength: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Of 200 clips of ten classes to these: the right one is so much more similar; and the right columns."""
    random = np.random.default_rng(seed)
    right = np.arange(200) % 10
    found = random.normal(size=(200, 10))
    found[np.arange(200), right] += strength
    return found, right


def test_other_sounds_are_of_other_classes() -> None:
    """However large one class is."""
    right = np.repeat([0, 1, 2], [50, 3, 1])
    assert (right[others(right)] != right).all()


def test_swapped_sounds_are_told_from_own_ones() -> None:
    """Where both tracks tell the class well."""
    (visual, right), (audio, _) = _similarities(3, 0), _similarities(3, 1)
    stored = fit_score(visual, audio, right)
    temperatures = stored.visual_temperature, stored.audio_temperature
    own, swapped = (factors(visual, sounds, temperatures) for sounds in (audio, audio[others(right)]))
    assert auroc(-own, -swapped) > 0.95
    assert np.median(own) > stored.threshold > np.median(swapped)


def test_a_track_that_tells_nothing_tells_nothing_of_agreement() -> None:
    """The AUROC is that of chance."""
    (visual, right), (audio, _) = _similarities(3, 0), _similarities(0, 1)
    stored = fit_score(visual, audio, right)
    temperatures = stored.visual_temperature, stored.audio_temperature
    own, swapped = (factors(visual, sounds, temperatures) for sounds in (audio, audio[others(right)]))
    assert 0.4 < auroc(-own, -swapped) < 0.6


def test_training_and_service_have_the_same_factor() -> None:
    """So the fitted numbers mean the same in both."""
    (visual, right), (audio, _) = _similarities(2, 0), _similarities(2, 1)
    stored = fit_score(visual, audio, right)
    factor = factors(visual, audio, (stored.visual_temperature, stored.audio_temperature))
    expected = 1 / (1 + np.exp(-(factor - stored.threshold) / stored.scale))
    for v, a, score in zip(visual, audio, expected, strict=True):
        overlap = Overlap(stored)
        overlap.add(v.astype(np.float32), a.astype(np.float32))
        found = overlap.agreement()
        assert found is not None
        assert found.score == pytest.approx(score, abs=1e-4)
