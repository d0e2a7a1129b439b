"""How many processors there are for a container."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from service.processors import n_processors

ALLOWED = len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("quota", "most"),
    [
        ("50000 100000\n", 1),
        ("100000 100000\n", 1),
        ("150000 100000\n", 2),
        ("6400000 100000\n", 64),
        ("max 100000\n", ALLOWED),
        ("", ALLOWED),
    ],
)
def test_a_quota_counts(quota: str, most: int, tmp_path: Path) -> None:
    """Rounded up, so that a share of a processor is used too; never more than the process may run on."""
    (tmp_path / "cpu.max").write_text(quota)
    assert n_processors(tmp_path / "cpu.max") == min(most, ALLOWED)


def test_without_control_groups(tmp_path: Path) -> None:
    """The processors that the process may run on."""
    assert n_processors(tmp_path / "none") == ALLOWED
