"""A decoding process that was taken over: it enters the sandbox, and then tries whatever an attacker would.

    ... worker DESCRIPTOR   the process that `DecodePool` starts, with an attack in place of decoding
    ... LAYER GOALS         an attack in a process with only one layer of the sandbox, or `none`
    ... LAYER               a system call as a 32-bit program makes it, in such a process

The outcome of each attempt is `done` or the name of an error, such as `EPERM`.
"""

import ctypes
import errno
import fcntl
import json
import mmap
import os
import platform
import resource
import socket
import sys
from collections.abc import Callable
from typing import BinaryIO, TypedDict
from unittest.mock import patch

from service.decode import sandbox, worker
from service.errors import DecodeCrashedError
from service.media import Clip

LIBC = ctypes.CDLL(None, use_errno=True)
# Numbers of system calls. Those of x32 have a bit of their own.
_PTRACE = {"x86_64": 101, "aarch64": 117}.get(platform.machine(), -1)
_PIDFD_OPEN, _IO_URING_SETUP, _X32_GETPID = 434, 425, 0x40000000 | 39
_PTRACE_ATTACH, _PTRACE_DETACH, _F_SETOWN = 16, 17, 8


class Goals(TypedDict):
    """What the attack is after.

    Attributes:
        canary: A file that the process must neither read nor change.
        port: A TCP port of this machine that is being listened at.
        abstract: The abstract Unix socket that is being listened at, without its leading zero byte.
        victim: A process.
    """

    canary: str
    port: int
    abstract: str
    victim: int


def attack(goals: Goals) -> dict[str, str]:
    """Try everything and say what came of it."""
    attempts: dict[str, Callable[[], object]] = {
        "read a file": lambda: _open(goals["canary"], os.O_RDONLY),
        "write a file": lambda: _open(goals["canary"], os.O_WRONLY | os.O_TRUNC),
        "create a file": lambda: _open(goals["canary"] + ".new", os.O_WRONLY | os.O_CREAT),
        "delete a file": lambda: os.unlink(goals["canary"]),  # noqa: PTH108 - the plain system call
        "list a directory": lambda: os.listdir("/"),  # noqa: PTH208 - the plain system call
        "connect by TCP": lambda: _connect(socket.AF_INET, ("127.0.0.1", goals["port"])),
        "connect by an abstract socket": lambda: _connect(socket.AF_UNIX, "\0" + goals["abstract"]),
        "listen": _listen,
        "start a process": _fork,
        "start a program": lambda: os.waitpid(os.posix_spawn("/bin/true", ["true"], {}), 0),
        "become a program": lambda: os.execv("/nowhere", ["nowhere"]),  # noqa: S606 - must not exist
        "signal a process": lambda: os.kill(goals["victim"], 0),
        "have a signal sent": lambda: fcntl.fcntl(0, _F_SETOWN, goals["victim"]),
        "trace a process": lambda: _trace(goals["victim"]),
        "get hold of a process": lambda: _call(_PIDFD_OPEN, goals["victim"], 0),
        "limit a process": lambda: resource.prlimit(goals["victim"], resource.RLIMIT_NOFILE),
        "submit calls to the kernel": lambda: _call(_IO_URING_SETUP, 1, bytes(200)),
        "create machine code": lambda: mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_EXEC).close(),
        "call by the x32 interface": lambda: _call(_X32_GETPID),
    }
    return {name: _outcome(attempt) for name, attempt in attempts.items()}


def _outcome(attempt: Callable[[], object]) -> str:
    try:
        attempt()
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return "done"


def _open(path: str, flags: int) -> None:
    os.close(os.open(path, flags))


def _connect(family: socket.AddressFamily, address: tuple[str, int] | str) -> None:
    with socket.socket(family) as sock:
        sock.connect(address)


def _listen() -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()


def _fork() -> None:
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)


def _trace(pid: int) -> None:
    _call(_PTRACE, _PTRACE_ATTACH, pid, 0, 0)
    os.waitpid(pid, 0)
    _call(_PTRACE, _PTRACE_DETACH, pid, 0, 0)


def _call(number: int, *args: int | bytes) -> None:
    if LIBC.syscall(ctypes.c_long(number), *args) < 0:
        raise OSError(ctypes.get_errno(), "")


def _call_as_32_bit_program(enter: Callable[[], object]) -> int:
    """Make a system call by the 32-bit interface of an x86_64 processor.

    Returns:
        The user id, or -EPERM. In the 64-bit interface the same number is that of `sched_yield`.
    """
    code = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    # mov eax, 24 (getuid); int 0x80; cdqe; ret
    code.write(bytes.fromhex("b818000000 cd80 4898 c3"))
    function = ctypes.CFUNCTYPE(ctypes.c_long)(ctypes.addressof(ctypes.c_char.from_buffer(code)))
    enter()
    return int(function())


def _attack_instead(file: BinaryIO, *_: object) -> Clip:
    """Stands in for `decode_file`: the clip holds the goals, and the error the outcomes."""
    goals: Goals = json.loads(file.read())
    os.write(2, b"a forged line of the log")
    outcomes = attack(goals) | {"raise the limit on memory": _outcome(_raise_limit)}
    raise DecodeCrashedError(json.dumps(outcomes))


def _raise_limit() -> None:
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    try:
        resource.setrlimit(resource.RLIMIT_AS, (soft + 4096, resource.RLIM_INFINITY))
    except ValueError as error:  # how Python reports that it is not permitted
        raise OSError(errno.EPERM, "") from error


_LAYERS: dict[str, Callable[[], object]] = {
    "none": lambda: None,
    "landlock": lambda: (LIBC.prctl(38, 1, 0, 0, 0), sandbox._enter_landlock(LIBC)),
    "seccomp": lambda: (LIBC.prctl(38, 1, 0, 0, 0), sandbox._enter_seccomp(LIBC)),
    "network_namespace": lambda: sandbox._enter_network_namespace(LIBC),
}


def _main(layer: str, argument: str = "") -> None:
    if layer == "worker":
        with patch.object(worker, "decode_file", _attack_instead):
            worker.main(int(argument))
    elif argument:
        _LAYERS[layer]()
        print(json.dumps(attack(json.loads(argument))))  # noqa: T201
    else:
        print(_call_as_32_bit_program(_LAYERS[layer]))  # noqa: T201


if __name__ == "__main__":
    _main(*sys.argv[1:])
