"""Eq. 1 on stored numbers: checked against scipy, and for what it must not depend on."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from service.head.standardise import standardise

RNG = np.random.default_rng(7)
THETA = RNG.normal(2, 3, (40, 16)).astype(np.float32)
MEAN, STD = THETA.mean(0), THETA.std(0)


def test_per_dimension_is_scipys_zscore_when_the_statistics_are_the_batchs_own() -> None:
    """Biased deviation, one per dimension."""
    found = standardise(THETA, MEAN, STD, "per_dimension")
    np.testing.assert_allclose(found, stats.zscore(THETA, axis=0), atol=1e-5)


def test_per_sample_is_scipys_zscore_of_each_row() -> None:
    """Nothing stored is used."""
    found = standardise(THETA, np.full(16, np.nan, np.float32), np.full(16, np.nan, np.float32), "per_sample")
    np.testing.assert_allclose(found, stats.zscore(THETA, axis=1), atol=1e-4)


def test_stored_then_sample_is_one_after_the_other() -> None:
    """The product's default."""
    found = standardise(THETA, MEAN, STD, "stored_then_sample")
    np.testing.assert_allclose(found, stats.zscore(stats.zscore(THETA, axis=0), axis=1), atol=1e-4)


def test_none_changes_nothing() -> None:
    """The baseline's embeddings stay raw."""
    assert standardise(THETA, MEAN, STD, "none") is THETA


@pytest.mark.parametrize("kind", ["none", "per_dimension", "per_sample", "stored_then_sample"])
def test_a_row_does_not_depend_on_its_neighbours(kind: str) -> None:
    """Adding a class moves no other class; one clip is embedded as inside any batch."""
    whole = standardise(THETA, MEAN, STD, kind)  # type: ignore[arg-type]  # parametrised literals
    alone = np.concatenate([standardise(row[None], MEAN, STD, kind) for row in THETA])  # type: ignore[arg-type]
    np.testing.assert_array_equal(whole, alone)


def test_a_constant_row_stays_finite() -> None:
    """Post-ReLU embeddings can be all zero."""
    found = standardise(np.zeros((1, 16), np.float32), MEAN, STD, "per_sample")
    np.testing.assert_array_equal(found, np.zeros((1, 16)))
