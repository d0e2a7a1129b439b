"""The decoding process that `DecodePool` starts: receives requests, decodes within hard limits, answers."""

import gc
import os
import resource
import socket
import sys
import traceback
from dataclasses import asdict
from functools import partial
from pathlib import Path

# Imported now, since no file can be opened in the sandbox: PyAV imports these for a file that has subtitles,
# numpy its module `ma` for a median.
import av.subtitles.codeccontext
import av.subtitles.stream
import av.subtitles.subtitle  # noqa: F401
import numpy.ma  # noqa: F401  (numpy.median)

from service.decode import messages, wire
from service.decode.clip_decoding import decode_file
from service.decode.sandbox import enter_sandbox
from service.errors import ClipTooLargeError, DecodeCrashedError, MediaError
from service.media import DecodeLimits

_MAX_OPEN_FILES = 32


def main(file_descriptor: int) -> None:
    """Answer requests until the service closes the connection.

    Args:
        file_descriptor: The inherited socket to the service.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (_MAX_OPEN_FILES, _MAX_OPEN_FILES))
    idle_bytes = _address_space_bytes()
    # A process that was taken over must not write into the log of the service.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())
    with socket.socket(fileno=file_descriptor) as sock:
        try:
            messages.send(sock, {"ready": os.getpid(), "sandbox": asdict(enter_sandbox())})
            gc.freeze()  # so that a collection looks at the objects of the last clip only
            while True:
                _answer(sock, idle_bytes)
                # Open files and their streams refer to each other: of several clips they would fill the heap
                # with holes, and take twice the memory.
                gc.collect()
        except (EOFError, OSError):  # the service is gone
            return


def _answer(sock: socket.socket, idle_bytes: int) -> None:
    file, spec, limits, n_threads = wire.receive_request(sock)
    _limit(limits, idle_bytes)
    try:
        with file:
            clip = decode_file(file, spec, limits, partial(wire.send_sound, sock), n_threads)
    except MediaError as error:
        wire.send_error(sock, error)
    except MemoryError:
        remedy = "Send" if spec.segment_s is None else "Ask for longer segments, or send"
        wire.send_error(
            sock,
            ClipTooLargeError(
                f"Decoding this clip takes too much memory. {remedy} a shorter or smaller one."
            ),
        )
    except Exception:  # noqa: BLE001 - whatever a hostile file makes the libraries raise must fail that clip only
        # Not to stderr, which is that of the service: it would break into its log.
        wire.send_error(sock, DecodeCrashedError("The clip could not be decoded."), traceback.format_exc())
    else:
        wire.send_clip(sock, clip)


def _limit(limits: DecodeLimits, idle_bytes: int) -> None:
    """Limit the memory, and the processor time in case the service is gone and can't kill this process."""
    # The hard limit too: a process that was taken over could raise the soft one. All requests agree on it.
    memory, _ = _within_hard(resource.RLIMIT_AS, idle_bytes + limits.memory_bytes)
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    used = resource.getrusage(resource.RUSAGE_SELF)
    wanted_s = int(used.ru_utime + used.ru_stime + limits.processor_time_s) + 2
    resource.setrlimit(resource.RLIMIT_CPU, _within_hard(resource.RLIMIT_CPU, wanted_s))


def _within_hard(kind: int, wanted: int) -> tuple[int, int]:
    """The wanted soft limit within the hard one, which may be inherited (`ulimit`) and can't be raised."""
    _, hard = resource.getrlimit(kind)
    return wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard


def _address_space_bytes() -> int:
    n_pages = int(Path("/proc/self/statm").read_text().split()[0])
    return n_pages * resource.getpagesize()


if __name__ == "__main__":
    main(int(sys.argv[1]))
