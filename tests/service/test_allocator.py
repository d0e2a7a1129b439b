"""What the C library does with large buffers, in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

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
