"""How many processors there are for a container."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from service.process import adds_products_in_32_bits, n_processors

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


@pytest.mark.parametrize(
    ("flags", "expected"),
    [("fpu avx2 avx512_vnni", True), ("fpu avx2 avx_vnni", True), ("fpu avx2 avx512f", False), ("", False)],
)
def test_a_processor_with_vnni_adds_products_in_32_bits(flags: str, expected: bool, tmp_path: Path) -> None:
    """By the kernel's list of what the processor can do."""
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\nflags\t\t: {flags}\n")
    assert adds_products_in_32_bits(tmp_path / "cpuinfo") is expected


def test_a_processor_of_which_nothing_is_known_does_not(tmp_path: Path) -> None:
    """The slower arithmetic is right everywhere."""
    assert not adds_products_in_32_bits(tmp_path / "none")
