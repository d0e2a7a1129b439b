"""Answers of one JSON object a line: their media type, and what a line takes of memory until it is read."""

from __future__ import annotations

from collections.abc import Iterator

from service.api.guard.byte_budget import SMALL_BYTES, ByteShare

LINES = "application/x-ndjson"


def count_line(n_bytes: int, share: ByteShare) -> None:
    """Count a line among the unread answers. One that is larger than the whole budget takes all of it.

    Raises:
        OverloadedError: Others hold too much.
    """
    share.grow_to(min(n_bytes, share.capacity))


def cut_line(line: bytes) -> Iterator[bytes]:
    """The pieces in which a line is sent while it counts.

    The server waits for slow readers before it takes the next piece, not after the last one. So of a line
    that does not count any more one piece may be unread, which is so small that it need not count.
    """
    for start in range(0, len(line), SMALL_BYTES):
        yield line[start : start + SMALL_BYTES]
