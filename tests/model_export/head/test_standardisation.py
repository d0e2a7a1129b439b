"""Eq. 1 in each of its modes."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import zscore

from model_export.head.head_config import Standardisation
from model_export.head.standardisation import EPS, moments, moments_for, standardise

MODES = get_args(Standardisation)


def theta(n: int = 40, seed: int = 0) -> torch.Tensor:
    """Embeddings as the head makes them: never negative, dimensions of different spread, one of them dead."""
    rows = torch.relu(torch.randn(n, 64, generator=torch.Generator().manual_seed(seed)))
    rows = rows * torch.linspace(0.5, 3, 64)
    rows[:, 5] = 0
    return rows


def test_per_dimension_is_the_zscore_of_each_column() -> None:
    """Against scipy, biased; eps does not show where a column has spread."""
    rows = theta()
    z = standardise("per_dimension", rows, moments_for("per_dimension", rows))
    live = [i for i in range(64) if i != 5]
    np.testing.assert_allclose(z[:, live], zscore(rows[:, live], axis=0), atol=1e-3)


def test_per_sample_is_the_zscore_of_each_row() -> None:
    """Against scipy, biased."""
    rows = theta()
    z = standardise("per_sample", rows, moments_for("per_sample", rows))
    np.testing.assert_allclose(z, zscore(rows, axis=1), atol=1e-4)


def test_stored_then_sample_standardises_columns_then_rows() -> None:
    """First the columns by what is stored, then each row by itself."""
    rows, stored = theta(), moments(theta(seed=1))
    by_hand = zscore((rows - stored.mean) / stored.std, axis=1)
    np.testing.assert_allclose(standardise("stored_then_sample", rows, stored), by_hand, atol=1e-4)


def test_standardisation_none_changes_nothing() -> None:
    """The baseline goes through the same code."""
    assert torch.equal(standardise("none", theta(), moments_for("none", theta())), theta())


def test_stored_deviation_includes_eps_and_is_biased() -> None:
    """With these, z = (theta - mean) / std holds as it stands, dead dimensions included."""
    stored = moments(theta())
    np.testing.assert_allclose(stored.std, np.sqrt(theta().numpy().var(axis=0) + EPS), rtol=1e-5)
    assert stored.std[5].item() == pytest.approx(np.sqrt(EPS))


@pytest.mark.parametrize("mode", MODES)
@given(n=st.integers(1, 12))
def test_a_row_never_depends_on_the_rows_beside_it(mode: Standardisation, n: int) -> None:
    """With stored moments, one row alone is the same as that row in any batch."""
    rows, stored = theta(12), moments_for(mode, theta(seed=3))
    whole = standardise(mode, rows, stored)
    torch.testing.assert_close(standardise(mode, rows[:n], stored), whole[:n])


@pytest.mark.parametrize("mode", MODES)
def test_an_embedding_of_zeros_stays_finite(mode: Standardisation) -> None:
    """After a ReLU a whole row can be 0."""
    rows = torch.zeros(3, 64)
    assert standardise(mode, rows, moments_for(mode, rows)).isfinite().all()
