"""A clip from a path, bytes or an open file, streamed with a progress callback."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from service.client.errors import InvalidArgumentError

ClipSource = str | os.PathLike[str] | bytes | BinaryIO
"""A path, the bytes of a clip, or a file that is open for reading bytes; the last from where it stands."""

Progress = Callable[[int, int | None], object]
"""Called with the bytes that were sent and their total (None: unknown); a further try begins from 0 again."""


@contextmanager
def opened(clip: ClipSource, progress: Progress | None) -> Iterator[Upload]:
    """Open what is a path, and close it again. Files of the caller stay open.

    Raises:
        InvalidArgumentError: An open file of text.
        OSError: The path can't be read.
    """
    if isinstance(clip, bytes):
        yield Upload(io.BytesIO(clip), progress)
    elif isinstance(clip, (str, os.PathLike)):
        with Path(clip).open("rb") as file:
            yield Upload(file, progress)
    elif isinstance(clip, io.TextIOBase):
        raise InvalidArgumentError("the clip is a file of text; open it with mode 'rb'")
    else:
        yield Upload(clip, progress)


class Upload:
    """A file as httpx2 reads it: seek to its start, ask for its size, read to its end.

    Args:
        file: Read from where it stands.
        progress: Called after each read.

    Attributes:
        can_repeat: The file can be read again from its start.
    """

    def __init__(self, file: BinaryIO, progress: Progress | None) -> None:
        self._file = file
        self._progress = progress
        self.can_repeat = file.seekable()
        self._start = file.tell() if self.can_repeat else 0
        self._n_total = self._size() if self.can_repeat else None
        self._n_sent = 0

    def _size(self) -> int:
        end = self._file.seek(0, io.SEEK_END)
        self._file.seek(self._start)
        return max(0, end - self._start)

    def tell(self) -> int:
        """Position since the start."""
        return self._n_sent

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to the start, or to the end for its position; httpx2 needs no other place.

        Raises:
            io.UnsupportedOperation: The file can't be moved in, such as a pipe.
        """
        if self._n_total is None:
            raise io.UnsupportedOperation("the clip is a stream")
        position = offset + (self._n_total if whence == io.SEEK_END else 0)
        self._file.seek(self._start + position)
        self._n_sent = position
        return position

    def read(self, n_bytes: int = -1) -> bytes:
        """The next bytes. Those behind the size that was announced, of a file that grows, are left out."""
        if self._n_total is not None:
            left = self._n_total - self._n_sent
            n_bytes = left if n_bytes < 0 else min(n_bytes, left)
        chunk = self._file.read(n_bytes)
        self._n_sent += len(chunk)
        if chunk and self._progress is not None:
            self._progress(self._n_sent, self._n_total)
        return chunk
