"""Clips from paths, bytes or open files, streamed with a progress callback."""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import BinaryIO, Protocol

from service.client.errors import InvalidArgumentError

ClipSource = str | os.PathLike[str] | bytes | BinaryIO
"""A path, the bytes of a clip, or a file that is open for reading bytes; the last from where it stands."""

Progress = Callable[[int, int | None], object]
"""Called with the bytes that were sent and their total (None: unknown); a further try begins from 0 again."""


@contextmanager
def opened(clips: Sequence[ClipSource], progress: Progress | None) -> Iterator[list[Upload]]:
    """Make uploads of clips, and close what was opened for them. Files of the caller stay open.

    Args:
        clips: Those of one request.
        progress: Told of all of them together.

    Raises:
        InvalidArgumentError: An open file of text.
        OSError: The path can't be read.
    """
    with ExitStack() as files:
        uploads = [_open(clip, files) for clip in clips]
        if progress is not None:
            for upload in uploads:
                upload.on_read = partial(_report, uploads, progress)
        yield uploads


def rewind(uploads: Sequence[Upload]) -> None:
    """Before each further try: all begin anew, so that progress does too; until then paths are closed."""
    for upload in uploads:
        if upload.can_repeat:
            upload.seek(0)


def _open(clip: ClipSource, files: ExitStack) -> Upload:
    if isinstance(clip, bytes):
        return Upload(io.BytesIO(clip))
    if isinstance(clip, (str, os.PathLike)):
        # Names on disk are bytes; what is no text in them can't be sent.
        name = os.fsencode(Path(clip).name).decode("utf-8", "replace")
        return Upload(_at_path(Path(clip), files), name)
    if isinstance(clip, io.TextIOBase):
        raise InvalidArgumentError("the clip is a file of text; open it with mode 'rb'")
    return Upload(clip)


def _at_path(path: Path, files: ExitStack) -> _Readable:
    """The file at a path, or the OSError of opening it. A pipe stays open: its writer would see it close."""
    file = path.open("rb")
    facts = os.fstat(file.fileno())
    if not stat.S_ISREG(facts.st_mode):
        return files.enter_context(file)
    file.close()
    late = _LateFile(path, facts.st_size)
    files.callback(late.close)
    return late


def _report(uploads: list[Upload], progress: Progress) -> None:
    sizes = [upload.n_total for upload in uploads if upload.n_total is not None]
    total = sum(sizes) if len(sizes) == len(uploads) else None
    progress(sum(upload.n_sent for upload in uploads), total)


class _Readable(Protocol):
    """What an upload needs of a file."""

    def seekable(self) -> bool: ...
    def tell(self) -> int: ...
    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int: ...
    def read(self, n_bytes: int = -1) -> bytes: ...


class _LateFile:
    """A file that is open only while it is read: thousands of requests may wait for a connection.

    Args:
        path: Opened at its first read.
        n_bytes: Size of the file.
    """

    def __init__(self, path: Path, n_bytes: int) -> None:
        self._path = path
        self._n_bytes = n_bytes
        self._position = 0
        self._file: BinaryIO | None = None

    def seekable(self) -> bool:
        """It is a regular file."""
        return True

    def tell(self) -> int:
        """Position of the next read."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Close it, and remember where to go on."""
        self.close()
        self._position = offset + (self._n_bytes if whence == io.SEEK_END else 0)
        return self._position

    def read(self, n_bytes: int = -1) -> bytes:
        """The next bytes; at the end it is closed."""
        if self._file is None:
            self._file = self._path.open("rb")
            self._file.seek(self._position)
        chunk = self._file.read(n_bytes)
        self._position += len(chunk)
        if not chunk:
            self.close()
        return chunk

    def close(self) -> None:
        """Close it, if it is open."""
        if self._file is not None:
            self._file.close()
            self._file = None


class Upload:
    """A file as httpx2 reads it: seek to its start, ask for its size, read to its end.

    Args:
        file: Read from where it stands.
        name: Its file name, without folders.

    Attributes:
        name: Of the file.
        can_repeat: The file can be read again from its start.
        n_total: Bytes; None: unknown until its end.
        n_sent: Bytes that were read.
        on_read: Called after each read, if set.
    """

    def __init__(self, file: _Readable, name: str = "clip") -> None:
        self._file = file
        self.name = name
        self.can_repeat = file.seekable()
        self._start = file.tell() if self.can_repeat else 0
        self.n_total = self._size() if self.can_repeat else None
        self.n_sent = 0
        self.on_read: Callable[[], None] | None = None

    def _size(self) -> int:
        end = self._file.seek(0, io.SEEK_END)
        self._file.seek(self._start)
        return max(0, end - self._start)

    def tell(self) -> int:
        """Position since the start."""
        return self.n_sent

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to the start, or to the end for its position; httpx2 needs no other place.

        Raises:
            io.UnsupportedOperation: The file can't be moved in, such as a pipe.
        """
        if self.n_total is None:
            raise io.UnsupportedOperation("the clip is a stream")
        position = offset + (self.n_total if whence == io.SEEK_END else 0)
        self._file.seek(self._start + position)
        self.n_sent = position
        return position

    def read(self, n_bytes: int = -1) -> bytes:
        """The next bytes. Those behind the size that was announced, of a file that grows, are left out."""
        if self.n_total is not None:
            left = self.n_total - self.n_sent
            n_bytes = left if n_bytes < 0 else min(n_bytes, left)
        chunk = self._file.read(n_bytes)
        self.n_sent += len(chunk)
        if chunk and self.on_read is not None:
            self.on_read()
        return chunk
