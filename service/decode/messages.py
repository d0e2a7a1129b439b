"""Messages over a socket: a JSON header, then the bytes of arrays, received within a time and a size."""

import json
import socket
import struct
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy.typing as npt

_LENGTH = struct.Struct("!I")
MAX_HEADER_BYTES = 1 << 20
"""Longest header, unless its receiver allows more."""

Header = dict[str, Any]
Patience = Callable[[], float]
"""Seconds > 0 to wait from now on, at most; raises TimeoutError when it has run out."""


def within(seconds: float) -> Patience:
    """Patience for so long from now."""
    deadline = time.monotonic() + seconds

    def left_s() -> float:
        if (left := deadline - time.monotonic()) <= 0:
            raise TimeoutError
        return left

    return left_s


def send(sock: socket.socket, header: Header, arrays: Sequence[npt.NDArray[Any]] = ()) -> None:
    """Send one message.

    Args:
        sock: The connection.
        header: Values that JSON can express.
        arrays: Contiguous arrays; their shapes must follow from the header.
    """
    text = json.dumps(header).encode()
    sock.sendall(_LENGTH.pack(len(text)) + text)
    for array in arrays:
        sock.sendall(array.data.cast("B"))


def receive(sock: socket.socket, patience: Patience | None = None) -> Header:
    """Receive the header of one message.

    Args:
        sock: The connection.
        patience: How long to wait; None waits without limit.

    Raises:
        TimeoutError: Patience has run out.
        EOFError: The connection is closed, or the header is too long to be one.
        ValueError: The header is not a JSON object.
    """
    header = json.loads(receive_text(sock, patience))
    if not isinstance(header, dict):
        raise ValueError("the header is not an object")
    return header


def receive_text(
    sock: socket.socket, patience: Patience | None, max_bytes: int = MAX_HEADER_BYTES
) -> bytearray:
    """The same, as it was sent, for who checks more than `receive` does."""
    prefix = bytearray(_LENGTH.size)
    fill(sock, memoryview(prefix), patience)
    (length,) = _LENGTH.unpack(prefix)
    if length > max_bytes:
        raise EOFError
    text = bytearray(length)
    fill(sock, memoryview(text), patience)
    return text


def fill(sock: socket.socket, buffer: memoryview, patience: Patience | None) -> None:
    """Receive exactly as many bytes as the buffer holds.

    All of them in one call where they come in time: after each call the thread waits for the interpreter's
    lock again, which is what many clips at once are short of.
    """
    while buffer:
        if patience is not None:
            # Asked before each read, so that a process that sends slowly can't extend it.
            _wait_at_most(sock, patience())
        try:
            n_bytes = sock.recv_into(buffer, len(buffer), socket.MSG_WAITALL)
        except BlockingIOError:
            continue  # nothing came in that time; there may be more of it than was known
        if n_bytes == 0:
            raise EOFError
        buffer = buffer[n_bytes:]


def _wait_at_most(sock: socket.socket, seconds: float) -> None:
    """Bound a whole receiving call; Python's own time-outs make sockets return what is there so far."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _timeval(seconds))


def bound_sending(sock: socket.socket, seconds: float) -> None:
    """Let sending fail with OSError after so long: a process that was taken over may no longer read."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _timeval(seconds))


def _timeval(seconds: float) -> bytes:
    return struct.pack("ll", *divmod(max(1, int(seconds * 1_000_000)), 1_000_000))
