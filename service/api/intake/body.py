"""What the readers of bodies share: what they may take, where they put it, and what they return."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from service.api.guard.byte_budget import ByteShare

FILE_FIELD, FILES_FIELD = "file", "files"
# Clips in one request. Each is a file, and a body of small ones could otherwise hold millions.
MAX_FILES = 100
# Of a clip's file name.
MAX_NAME_CHARACTERS = 255
# What is handed to a thread at a time: bytes, or chunks (of up to 64 KB) where these are small. Each handing
# over costs a switch of threads, with the interpreter's lock. A piece is held twice when it is joined.
_PIECE_BYTES, _PIECE_CHUNKS = 1 << 19, 64

Fields = tuple[tuple[str, str], ...]
"""Names and values in the order sent; values are text, as in a form."""


@dataclass(frozen=True)
class FormLimits:
    """What a request may hold besides clips.

    Attributes:
        max_fields: Maximum number of fields.
        max_field_bytes: Maximum size of all fields together; of a JSON body, with the clip in it.
    """

    max_fields: int
    max_field_bytes: int


@dataclass(frozen=True)
class Room:
    """Where a reader puts what it reads.

    Attributes:
        folder: A folder of the request's own, for clips.
        on_disk: Counts the bytes of clips.
        in_memory: Counts the bytes of all else.
    """

    folder: Path
    on_disk: ByteShare
    in_memory: ByteShare

    def path(self, number: int = 0) -> Path:
        """The file of a clip, under a neutral name."""
        return self.folder / (f"clip-{number}" if number else "clip")


@dataclass(frozen=True)
class Body:
    """A body that was read.

    Attributes:
        clips: Files, in the order sent.
        fields: All else.
        are_many: Whether the clips were sent as a list, even if of one.
        names: File names of the clips, as far as any were sent; never opened.
    """

    clips: tuple[Path, ...]
    fields: Fields = ()
    are_many: bool = False
    names: tuple[str, ...] = ()


async def pieces(body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """A body as it comes, in pieces that are worth a thread's while."""
    chunks, n_bytes = list[bytes](), 0
    async for chunk in body:
        chunks.append(chunk)
        n_bytes += len(chunk)
        if n_bytes >= _PIECE_BYTES or len(chunks) == _PIECE_CHUNKS:
            yield b"".join(chunks)
            chunks, n_bytes = [], 0
    if n_bytes:
        yield b"".join(chunks)
