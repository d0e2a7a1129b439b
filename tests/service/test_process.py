"""What the process is given: processors, their arithmetic, and how memory is returned."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from service.process import allow_open_files, has_vnni, n_processors

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


_CODE = """
import ctypes
from service.process import set_up_allocator
libc = ctypes.CDLL(None)
if not hasattr(libc, "mallinfo2"):
    raise SystemExit(77)
class Info(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in "arena ordblks smblks hblks a b c d e f".split()]
libc.mallinfo2.restype = Info
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
set_up_allocator()
libc.free(libc.malloc(16 * 2**20))  # from here on glibc would keep buffers up to this size in its heaps
before = libc.mallinfo2().hblks
buffer = libc.malloc(2**20)
print(libc.mallinfo2().hblks - before)
"""


@pytest.mark.parametrize(("variables", "n_apart"), [({}, "1"), ({"MALLOC_ARENA_MAX": "4"}, "0")])
def test_large_buffers_are_outside_the_heap(variables: dict[str, str], n_apart: str) -> None:
    """So each is returned to the system when freed; settings in the environment take precedence."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    done = subprocess.run(  # noqa: S603  (our own interpreter and code)
        [sys.executable, "-c", _CODE], env=plain | variables, capture_output=True, text=True, check=False
    )
    if done.returncode == 77:
        pytest.skip("the C library is not glibc 2.33 or later")
    assert done.stdout.strip() == n_apart, done.stderr


_PIECES = """
import ctypes
from pathlib import Path
from service.process import return_freed_memory, set_up_allocator
if not hasattr(ctypes.CDLL(None), "malloc_trim"):
    raise SystemExit(77)
set_up_allocator()
def resident():
    return next(int(l.split()[1]) for l in Path("/proc/self/status").read_text().splitlines() if "VmRSS" in l)
pieces = [bytes(4000) for _ in range(20_000)]
full = resident()
del pieces[:-1]  # the last one keeps the heap from shrinking
before = resident()
return_freed_memory()
print(full - before, full - resident())
"""


def test_pages_that_are_free_inside_a_heap_are_returned() -> None:
    """80 MB in small pieces: freed, they stay resident until they are returned."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    done = subprocess.run(  # noqa: S603  (our own interpreter and code)
        [sys.executable, "-c", _PIECES], env=plain, capture_output=True, text=True, check=False
    )
    if done.returncode == 77:
        pytest.skip("the C library is not glibc")
    kept, returned = map(int, done.stdout.split())
    assert kept < 10_000 < 70_000 < returned, done.stderr


_PRODUCTS = """
import numpy
from threadpoolctl import threadpool_info
from service.process import use_one_thread_per_product
def most():
    return max((one["num_threads"] for one in threadpool_info() if one["user_api"] == "blas"), default=0)
before = most()
use_one_thread_per_product()
print(before, most())
"""


def test_numpy_computes_a_product_in_one_thread() -> None:
    """In a process of its own, which would use two."""
    done = subprocess.run(  # noqa: S603  (our own interpreter and code)
        [sys.executable, "-c", _PRODUCTS],
        env=os.environ | {"OPENBLAS_NUM_THREADS": "2"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.stdout == "1 1\n" or done.stdout.startswith("0 "):
        pytest.skip("there is one processor, or numpy stands on a library whose threads are not known")
    assert done.stdout == "2 1\n", done.stderr


@pytest.mark.parametrize(
    ("limits", "wanted", "allowed"), [((100, 500), 300, 300), ((100, 500), 900, 500), ((200, 500), 100, 200)]
)
def test_the_limit_on_open_files_is_raised_as_far_as_allowed(
    limits: tuple[int, int], wanted: int, allowed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within the hard limit, and never lowered."""
    set_to = [limits]
    monkeypatch.setattr(resource, "getrlimit", lambda _: set_to[-1])
    monkeypatch.setattr(resource, "setrlimit", lambda _, pair: set_to.append(pair))
    assert allow_open_files(wanted) == allowed
    assert set_to[-1] == (allowed, 500)
