"""How many processors this process may use: what its container is given, not what the machine has."""

from __future__ import annotations

import math
import os
from pathlib import Path

# Where the kernel says so inside a container (cgroup v2): microseconds of processor time in each period.
_QUOTA = Path("/sys/fs/cgroup/cpu.max")


def n_processors(quota: Path = _QUOTA) -> int:
    """At least one: those the process may run on, or fewer where a quota of processor time is set."""
    allowed = len(os.sched_getaffinity(0))
    try:
        most, period = quota.read_text().split()
        return max(1, min(allowed, math.ceil(int(most) / int(period))))
    except (OSError, ValueError):  # no such file here, or "max": no quota
        return allowed


def adds_products_in_32_bits(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether the processor adds products of 8-bit integers in 32 bits (VNNI), not in 16, which overflow.

    Args:
        cpuinfo: The kernel's description of the processors; where there is none, the answer is no.
    """
    try:
        flags = cpuinfo.read_text(encoding="utf-8", errors="replace").split()
    except OSError:
        return False
    return not {"avx512_vnni", "avx_vnni"}.isdisjoint(flags)
