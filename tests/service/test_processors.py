"""How many processors there are for a container."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from service.process import has_vnni, n_processors

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
def test_a_quota_limits_the_number_of_processors(quota: str, most: int, tmp_path: Path) -> None:
    """It is rounded up, and never exceeds the processors that the process may run on."""
    (tmp_path / "cpu.max").write_text(quota)
    assert n_processors(tmp_path / "cpu.max") == min(most, ALLOWED)


def test_without_a_quota_all_allowed_processors_count(tmp_path: Path) -> None:
    """These are the processors that the process may run on."""
    assert n_processors(tmp_path / "none") == ALLOWED


@pytest.mark.parametrize(
    ("flags", "expected"),
    [("fpu avx2 avx512_vnni", True), ("fpu avx2 avx_vnni", True), ("fpu avx2 avx512f", False), ("", False)],
)
def test_vnni_is_read_from_the_flags_of_the_processor(flags: str, expected: bool, tmp_path: Path) -> None:
    """The kernel lists what the processor supports."""
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\nflags\t\t: {flags}\n")
    assert has_vnni(tmp_path / "cpuinfo") is expected


def test_an_unknown_processor_has_no_vnni(tmp_path: Path) -> None:
    """The slower arithmetic is correct everywhere."""
    assert not has_vnni(tmp_path / "none")
