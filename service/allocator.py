"""Keep a long-running process's memory where it is: set up the C library's allocator for many threads."""

from __future__ import annotations

import ctypes
import os

# From malloc.h of glibc.
_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8
# Frames, waveforms and features of many names are larger; what Python itself allocates is smaller.
_LARGE_BYTES = 256 * 2**10
_N_ARENAS = 2


def settle_memory() -> None:
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
