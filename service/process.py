"""This process and its machine: processors, and how the C library hands out memory."""

from __future__ import annotations

import ctypes
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


# From malloc.h of glibc.
_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8
# Frames, waveforms and features of many names are larger; what Python itself allocates is smaller.
_LARGE_BYTES = 256 * 2**10
_N_ARENAS = 2


def set_up_allocator() -> None:
    """Give large buffers back to the system when they are freed, and let threads share few heaps.

    By default glibc keeps what was freed in a heap of each thread, up to eight times the processors, where
    buffers of many sizes leave holes: memory creeps up over thousands of clips, though nothing is leaked.
    Does nothing with another C library, or where the environment sets such values (MALLOC_...).
    """
    if any(name.startswith("MALLOC_") for name in os.environ):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)
        mallopt(_M_ARENA_MAX, _N_ARENAS)
