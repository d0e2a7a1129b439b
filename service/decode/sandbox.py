"""The sandbox of a decoding process: what a Linux process can give up for good, without being root.

A process that decodes needs memory, threads, its connection to the service and the open file of a clip.
Before the first clip it gives up everything else, in layers, because not every kernel and container offers
all of them:

    no_new_privs       it has no rights of root, and no program that it starts can gain any
    network_namespace  it has a network of its own, without any interface that is up
    landlock           it can't open or change a file by its name; since Linux 6.7 it can't use TCP either,
                       since 6.12 not signal other processes or connect to their abstract Unix sockets
    seccomp            it can make only the system calls that decoding needs: none that opens a file or a
                       socket, starts a process or affects another one, and none that creates machine code

A layer that the kernel or the container refuses is off. That is reported, and is not an error: memory and
time are limited in any case (worker).

Sources: prctl(2), unshare(2), landlock(7), seccomp(2) of the Linux manual; linux/filter.h, linux/seccomp.h.
"""

import ctypes
import errno
import os
import platform
import struct
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import NamedTuple


@dataclass(frozen=True)
class Sandbox:
    """Which layers restrict a decoding process; the docstring of the module says what each does."""

    no_new_privs: bool = False
    network_namespace: bool = False
    landlock: bool = False
    seccomp: bool = False

    @property
    def keeps_files_shut(self) -> bool:
        """Whether the process can't open any file."""
        return self.landlock or self.seccomp

    def states(self) -> dict[str, str]:
        """The name of each layer, and `on` or `off`."""
        return {name: "on" if is_on else "off" for name, is_on in asdict(self).items()}


_PR_SET_NO_NEW_PRIVS = 38
_CAPABILITY_VERSION = 0x20080522
_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000


def enter_sandbox() -> Sandbox:
    """Restrict the current process, which must have a single thread, until it ends.

    Whatever it will need from files, such as modules, must have been loaded before.
    """
    if sys.platform != "linux":
        return Sandbox()
    libc = ctypes.CDLL(None, use_errno=True)
    # In this order: the kernel lets a process restrict itself if it can't gain rights, and the last layer
    # forbids the system calls that the others are made with.
    no_new_privs = libc.prctl(_PR_SET_NO_NEW_PRIVS, *map(ctypes.c_ulong, (1, 0, 0, 0))) == 0
    network_namespace = _enter_network_namespace(libc)
    # None, neither those of root nor those in the user namespace that comes with the other.
    libc.capset(struct.pack("Ii", _CAPABILITY_VERSION, 0), bytes(24))
    landlock = _enter_landlock(libc)
    return Sandbox(no_new_privs, network_namespace, landlock, seccomp=_enter_seccomp(libc))


def _enter_network_namespace(libc: ctypes.CDLL) -> bool:
    # Without being root, only a process in a user namespace of its own may do that.
    is_on: bool = libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET) == 0
    return is_on


# Landlock: a set of rules without any rule denies everything that it handles.

_CREATE_RULESET, _RESTRICT_SELF = 444, 446  # on every architecture
_GET_VERSION = 1
# What can be handled, by the version of the interface that added it. A kernel rejects bits that it does not
# know.
_FILE_RIGHTS = {1: 0x1FFF, 2: 0x3FFF, 3: 0x7FFF, 5: 0xFFFF}
_TCP_RIGHTS = {4: 0b11}  # bind, connect
_SCOPES = {6: 0b11}  # abstract Unix sockets, signals


def _enter_landlock(libc: ctypes.CDLL) -> bool:
    version: int = libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), _GET_VERSION)
    handled = (_newest(bits, version) for bits in (_FILE_RIGHTS, _TCP_RIGHTS, _SCOPES))
    # An older kernel has fewer of these three fields, and accepts the others if they are zero.
    attributes = struct.pack("QQQ", *handled)
    ruleset: int = libc.syscall(_CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), 0)
    if ruleset < 0:
        return False
    is_on: bool = libc.syscall(_RESTRICT_SELF, ruleset, 0) == 0
    os.close(ruleset)
    return is_on


def _newest(bits: dict[int, int], version: int) -> int:
    return max((value for since, value in bits.items() if since <= version), default=0)


# Seccomp: a program in classic BPF decides on each system call. A list of what is allowed, and not of what is
# forbidden, so that calls which later kernels add are forbidden too.


class _Architecture(NamedTuple):
    """What depends on the processor.

    Attributes:
        audit: Its value in linux/audit.h.
        column: Its column in `_ALLOWED`.
        seccomp: Number of the system call `seccomp`.
    """

    audit: int
    column: int
    seccomp: int


_ARCHITECTURES = {"x86_64": _Architecture(0xC000003E, 0, 317), "aarch64": _Architecture(0xC00000B7, 1, 277)}

# Numbers on x86_64 and aarch64. The kernel never changes them.
_ALLOWED = {
    # The clip, and the connection to the service.
    "read": (0, 63), "lseek": (8, 62), "fstat": (5, 80), "newfstatat": (262, 79), "dup": (32, 23),
    "fcntl": (72, 25), "close": (3, 57), "write": (1, 64), "sendto": (44, 206), "recvfrom": (45, 207),
    "recvmsg": (47, 212),
    # Memory and threads.
    "brk": (12, 214), "mmap": (9, 222), "mprotect": (10, 226), "mremap": (25, 216), "munmap": (11, 215),
    "madvise": (28, 233), "clone": (56, 220), "futex": (202, 98), "rseq": (334, 293), "gettid": (186, 178),
    "set_robust_list": (273, 99), "sched_yield": (24, 124), "sched_getaffinity": (204, 123),
    # Signals to the process, such as that of its time limit, and its end.
    "rt_sigaction": (13, 134), "rt_sigprocmask": (14, 135), "rt_sigreturn": (15, 139),
    "sigaltstack": (131, 132), "restart_syscall": (219, 128), "exit": (60, 93), "exit_group": (231, 94),
    # Limits, clocks, random numbers.
    "prlimit64": (302, 261), "getrusage": (98, 165), "sysinfo": (99, 179), "getpid": (39, 172),
    "clock_gettime": (228, 113), "clock_getres": (229, 114), "clock_nanosleep": (230, 115),
    "nanosleep": (35, 101), "gettimeofday": (96, 169), "getrandom": (318, 278),
}  # fmt: skip
# Calls since Linux 5.1 have the same number on every architecture, from this one on. If one of these does not
# exist, libraries use an older one: `clone`, whose flags can be checked, in place of `clone3`.
_FIRST_OPTIONAL = 424

# Instructions: load a word, compare it, return. The words are those of `struct seccomp_data`.
_LOAD, _IF_EQUAL, _IF_AT_LEAST, _IF_ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16
_ALLOW, _FAIL_WITH = 0x7FFF0000, 0x00050000


class _Condition(NamedTuple):
    """A system call is allowed if the lower half of one of its arguments passes a test."""

    argument: int
    test: int
    value: int
    expected: bool = True


_PROT_EXEC, _CLONE_THREAD, _F_SETFD, _F_DUPFD_CLOEXEC = 0x4, 0x10000, 2, 1030
_CONDITIONS = {
    "mmap": [_Condition(2, _IF_ANY_BIT, _PROT_EXEC, expected=False)],
    "mprotect": [_Condition(2, _IF_ANY_BIT, _PROT_EXEC, expected=False)],
    # A thread, not a process.
    "clone": [_Condition(0, _IF_ANY_BIT, _CLONE_THREAD)],
    # The limits of this process.
    "prlimit64": [_Condition(0, _IF_EQUAL, 0)],
    # Other commands could make the kernel send signals to other processes (F_SETOWN, F_SETSIG).
    "fcntl": [_Condition(1, _IF_EQUAL, _F_SETFD), _Condition(1, _IF_EQUAL, _F_DUPFD_CLOEXEC)],
}

_SET_MODE_FILTER = 1
# For all threads; and without a mitigation (SSBD) that kernels before 5.16 switch on for every process with a
# filter. It costs speed, and would only keep the process from reading its own memory.
_FLAGS = 0b001 | 0b100


class _Program(ctypes.Structure):
    _fields_ = (("n_instructions", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def _enter_seccomp(libc: ctypes.CDLL) -> bool:
    architecture = _ARCHITECTURES.get(platform.machine())
    if architecture is None:
        return False
    instructions = list(_filter(architecture))
    program = _Program(len(instructions), b"".join(instructions))
    done: int = libc.syscall(architecture.seccomp, _SET_MODE_FILTER, _FLAGS, ctypes.byref(program))
    return done == 0


def _filter(architecture: _Architecture) -> Iterator[bytes]:
    # A process can also make system calls as a 32-bit program, where numbers mean other calls.
    yield _instruction(_LOAD, _ARCHITECTURE)
    yield _instruction(_IF_EQUAL, architecture.audit, if_true=1)
    yield _instruction(_RETURN, _FAIL_WITH | errno.EPERM)
    yield _instruction(_LOAD, _NUMBER)
    for name, numbers in _ALLOWED.items():
        number = numbers[architecture.column]
        if name not in _CONDITIONS:
            yield _instruction(_IF_EQUAL, number, if_false=1)
            yield _instruction(_RETURN, _ALLOW)
        for condition in _CONDITIONS.get(name, []):
            yield from _allow_if(number, condition)
    yield _instruction(_IF_AT_LEAST, _FIRST_OPTIONAL, if_false=1)
    yield _instruction(_RETURN, _FAIL_WITH | errno.ENOSYS)
    yield _instruction(_RETURN, _FAIL_WITH | errno.EPERM)


def _allow_if(number: int, condition: _Condition) -> Iterator[bytes]:
    yield _instruction(_IF_EQUAL, number, if_false=4)
    yield _instruction(_LOAD, _ARGUMENTS + 8 * condition.argument)
    skip = {"if_false": 1} if condition.expected else {"if_true": 1}
    yield _instruction(condition.test, condition.value, **skip)
    yield _instruction(_RETURN, _ALLOW)
    yield _instruction(_LOAD, _NUMBER)


def _instruction(code: int, value: int, *, if_true: int = 0, if_false: int = 0) -> bytes:
    """One instruction, with how many of the following ones to skip."""
    return struct.pack("HBBI", code, if_true, if_false, value)
