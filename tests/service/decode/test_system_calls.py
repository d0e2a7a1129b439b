"""The filter of system calls, run by an interpreter: the same for both processors, wherever the test runs."""

import errno
import re
import struct
from pathlib import Path

import pytest

from service.decode import sandbox

X86_64, AARCH64, I386, ARM = 0xC000003E, 0xC00000B7, 0x40000003, 0x40000028
"""values of linux/audit.h."""


def decide(architecture: int, number: int, *arguments: int) -> str:
    """What the filter does, by an interpreter of its instructions: `allow` or the name of an error."""
    machine = next(a for a in sandbox._ARCHITECTURES.values() if a.audit == architecture)
    return interpret(list(sandbox._filter(machine)), architecture, number, *arguments)


def interpret(program: list[bytes], architecture: int, number: int, *arguments: int) -> str:
    """Run a filter; see Documentation/networking/filter.rst of Linux for the meaning of the codes."""
    padded = (*arguments, *[0] * (6 - len(arguments)))
    data = struct.pack("<IIQ6Q", number, architecture, 0, *padded)
    accumulator = at = 0
    while True:
        code, if_true, if_false, value = struct.unpack("HBBI", program[at])
        at += 1
        if code == 0x20:
            (accumulator,) = struct.unpack_from("<I", data, value)
        elif code == 0x06:
            action = value & 0xFFFF0000
            assert action in {0x7FFF0000, 0x00050000}
            return "allow" if action == 0x7FFF0000 else errno.errorcode[value & 0xFFFF]
        else:
            test = {0x15: accumulator == value, 0x35: accumulator >= value, 0x45: bool(accumulator & value)}
            at += if_true if test[code] else if_false


@pytest.mark.parametrize(
    ("architecture", "number", "arguments", "expected"),
    [
        pytest.param(X86_64, 0, [], "allow", id="read"),
        pytest.param(AARCH64, 63, [], "allow", id="read-arm"),
        pytest.param(AARCH64, 0, [], "EPERM", id="io_setup-arm"),
        pytest.param(X86_64, 2, [], "EPERM", id="open"),
        pytest.param(X86_64, 257, [], "EPERM", id="openat"),
        pytest.param(AARCH64, 56, [], "EPERM", id="openat-arm"),
        pytest.param(X86_64, 56, [0x3D0F00], "allow", id="thread"),
        pytest.param(X86_64, 56, [0x1200011], "EPERM", id="process"),
        pytest.param(AARCH64, 220, [0x3D0F00], "allow", id="thread-arm"),
        pytest.param(AARCH64, 220, [0x1200011], "EPERM", id="process-arm"),
        pytest.param(X86_64, 435, [], "ENOSYS", id="clone3"),
        pytest.param(X86_64, 9, [0, 4096, 3], "allow", id="map data"),
        pytest.param(X86_64, 9, [0, 4096, 7], "EPERM", id="map code"),
        pytest.param(X86_64, 10, [0, 4096, 5], "EPERM", id="data to code"),
        pytest.param(AARCH64, 226, [0, 4096, 5], "EPERM", id="data to code-arm"),
        pytest.param(X86_64, 302, [0], "allow", id="own limits"),
        pytest.param(X86_64, 302, [1], "EPERM", id="limits of another process"),
        pytest.param(X86_64, 72, [0, 2], "allow", id="close on exec"),
        pytest.param(X86_64, 72, [0, 1030], "allow", id="duplicate"),
        pytest.param(X86_64, 72, [0, 8], "EPERM", id="choose who gets signals"),
        pytest.param(X86_64, 0x40000000, [], "ENOSYS", id="read by x32"),
        pytest.param(X86_64, 500, [], "ENOSYS", id="a call of the future"),
    ],
)
def test_the_filter_decides_by_number_and_arguments(
    architecture: int, number: int, arguments: list[int], expected: str
) -> None:
    """For both processors, wherever the test runs."""
    assert decide(architecture, number, *arguments) == expected


@pytest.mark.parametrize("name", sandbox._ARCHITECTURES)
@pytest.mark.parametrize("other", [I386, ARM, X86_64, AARCH64])
def test_another_interface_of_the_processor_is_refused(name: str, other: int) -> None:
    """There the numbers of allowed calls mean other calls."""
    machine = sandbox._ARCHITECTURES[name]
    program = list(sandbox._filter(machine))
    decisions = {interpret(program, other, number) for number in range(1000)}
    assert decisions == ({"allow", "EPERM", "ENOSYS"} if other == machine.audit else {"EPERM"})


@pytest.mark.parametrize(
    ("column", "paths"),
    [
        (0, ["/usr/include/x86_64-linux-gnu/asm/unistd_64.h", "/usr/include/asm/unistd_64.h"]),
        (1, ["/usr/include/asm-generic/unistd.h"]),
    ],
    ids=["x86_64", "aarch64"],
)
def test_the_numbers_of_system_calls_are_those_of_the_kernel(column: int, paths: list[str]) -> None:
    """By its own headers."""
    text = "\n".join(path.read_text() for path in map(Path, paths) if path.is_file())
    if f"__NR{'3264' * column}_lseek {(8, 62)[column]}\n" not in text:
        pytest.skip("no headers of the kernel for this processor")
    known = {name: int(n) for name, n in re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)", text)}
    known.setdefault("newfstatat", known.get("fstatat", -1))  # its name on 64-bit processors
    ours = {name: numbers[column] for name, numbers in sandbox._ALLOWED.items()}
    assert ours == {name: known[name] for name in ours}
    machine = next(a for a in sandbox._ARCHITECTURES.values() if a.column == column)
    assert machine.seccomp == known["seccomp"]
