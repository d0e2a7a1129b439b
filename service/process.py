"""The process and its machine: processors, open files, what is on disk, set-up of the memory allocator."""

from __future__ import annotations

import ctypes
import math
import os
import resource
from pathlib import Path

# Set by the kernel inside a container (cgroup v2): "<microseconds of processor time> <period>", or "max ...".
_QUOTA = Path("/sys/fs/cgroup/cpu.max")


def n_processors(quota: Path = _QUOTA) -> int:
    """Processors that the process can keep busy, at least 1.

    These are the processors that it may run on, or fewer where a quota of processor time is set.

    Args:
        quota: The file that holds the quota of the control group; it need not exist.
    """
    allowed = len(os.sched_getaffinity(0))
    try:
        granted, period = quota.read_text().split()
        return max(1, min(allowed, math.ceil(int(granted) / int(period))))
    except (OSError, ValueError):  # no such file here, or "max": no quota
        return allowed


def has_vnni(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether the processor has VNNI: it adds products of 8-bit integers in 32 bits, where 16 could overflow.

    Args:
        cpuinfo: The kernel's description of the processors; False where the file does not exist.
    """
    try:
        flags = cpuinfo.read_text(encoding="utf-8", errors="replace").split()
    except OSError:
        return False
    return not {"avx512_vnni", "avx_vnni"}.isdisjoint(flags)


def allow_open_files(wanted: int) -> int:
    """Raise the soft limit on open files as far as is wanted and allowed; returns the limit.

    Connections, uploads and databases each take one: where the limit is reached, nothing new can be accepted.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = resource.RLIM_INFINITY
    if soft != unlimited and soft < wanted:
        soft = wanted if hard == unlimited else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return wanted if soft == unlimited else soft


# Parameters of mallopt, from malloc.h of glibc.
_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8
# Frames, waveforms and features of many labels are larger than this; objects of Python are smaller.
_LARGE_BYTES = 256 * 2**10
_N_ARENAS = 2


def set_up_allocator() -> None:
    """Make glibc return large buffers to the system when they are freed, and use few heaps for all threads.

    By default glibc has a heap for each thread, up to eight times the number of processors, and keeps freed
    memory in them. Buffers of many sizes fragment these heaps: memory use creeps up over thousands of clips
    although nothing leaks. Does nothing with another C library, or where the environment already sets such
    values (MALLOC_...).
    """
    if any(name.startswith("MALLOC_") for name in os.environ):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)
        mallopt(_M_ARENA_MAX, _N_ARENAS)


def use_one_thread_per_product() -> None:
    """Have numpy compute each product of matrices in the thread that asks for it.

    Its library would use all processors for each, one product at a time, and its threads wait for each other
    and for the next product by spinning. Beside encoders that keep all processors busy, that cost up to two
    fifths of the throughput (docs/performance.md).
    """
    import numpy as np  # noqa: F401  (only a library that is loaded can be told)
    from threadpoolctl import threadpool_limits

    threadpool_limits(1, user_api="blas")


def return_freed_memory() -> None:
    """Give pages that are free inside the heaps back to the system, as far as the C library is glibc.

    After something large in many small pieces was freed, such as the graphs of a bundle: heaps keep its
    pages, and what is loaded in its place does not fit into all of them.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def sync(path: Path) -> None:
    """Wait until a file, or the entries of a directory, would survive a power cut."""
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def sync_all(folder: Path) -> None:
    """`sync` the files of a folder, and the folder."""
    for path in (*filter(Path.is_file, folder.iterdir()), folder):
        sync(path)
