"""Read a multipart form while it arrives: clips to disk, the other fields to memory."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from fastapi import Request
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.concurrency import run_in_threadpool

from service.api.intake.body import (
    FILE_FIELD,
    FILES_FIELD,
    MAX_FILES,
    MAX_NAME_CHARACTERS,
    Body,
    FormLimits,
    Room,
    pieces,
)
from service.errors import (
    BodyTooLargeError,
    InvalidOptionError,
    MalformedBodyError,
    MissingFileError,
    TooManyLabelsError,
)

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

# More than any field has. The name of each part is kept, also of fields that are refused in the end.
_FIELD_NAME_CHARACTERS = 80
# As long as a path can be.
_MAX_PATH_BYTES = 4096


async def read_multipart(request: Request, room: Room, limits: FormLimits, boundary: bytes) -> Body:
    """Receive a form: its part `file`, or its parts `files`, to disk, all else as fields.

    Raises:
        MalformedBodyError: No such form, one with two parts `file`, or it ends early.
        MissingFileError: A path in place of a clip, or a clip in a part of another name.
        InvalidOptionError: A part `file` and others named `files`, or too many of these.
        BodyTooLargeError, TooManyLabelsError: Over the limits.
        OverloadedError: All uploads together, or all other fields, are as large as they may be.
        OSError: A clip can't be written.
    """
    form = _Form(room, limits)
    try:
        parser = MultipartParser(boundary, form.callbacks)
        async for piece in pieces(request.stream()):
            # In a thread: parsing and writing must not hold up other requests.
            await run_in_threadpool(parser.write, piece)
            room.in_memory.grow_to(form.n_field_bytes)
            room.on_disk.grow_to(form.n_file_bytes)
        return await run_in_threadpool(form.finish)
    except FormParserError as error:
        raise MalformedBodyError("The body is not a well-formed multipart form.") from error
    finally:
        form.close()


def _is_short_text(path: Path) -> bool:
    """Whether a file holds what may be the name of one."""
    if not 0 < path.stat().st_size <= _MAX_PATH_BYTES:
        return False
    try:
        return path.read_text(encoding="utf-8").isprintable()
    except UnicodeDecodeError:
        return False


class _Form:
    """Collects the parts of one form.

    Args:
        room: Where clips go.
        limits: For the other fields.

    Attributes:
        n_field_bytes: Size of the fields besides clips so far.
        n_file_bytes: Size of the clips so far.
    """

    def __init__(self, room: Room, limits: FormLimits) -> None:
        self._room = room
        self._limits = limits
        self._fields: list[tuple[str, str]] = []
        self._clips: list[Path] = []
        self._names: list[str] = []
        self._unnamed: list[Path] = []
        self._are_many = False
        self.n_field_bytes = self.n_file_bytes = 0
        self._file: BinaryIO | None = None
        self._ended = False
        self._start_part()

    @property
    def callbacks(self) -> MultipartCallbacks:
        """What the parser calls."""
        return {
            "on_part_begin": self._start_part,
            "on_header_field": self._header_name_bytes,
            "on_header_value": self._header_value_bytes,
            "on_header_end": self._end_header,
            "on_headers_finished": self._end_headers,
            "on_part_data": self._data,
            "on_part_end": self._end_part,
            "on_end": self._end,
        }

    def finish(self) -> Body:
        """What the form holds, once the body has ended."""
        if not self._ended:
            raise MalformedBodyError("The multipart form ends before its last boundary; send it again.")
        if any(map(_is_short_text, self._unnamed)):
            raise MissingFileError(
                "The part named `file` holds a line of text, not a clip; with curl an @ goes before the "
                "path: -F file=@clip.mp4"
            )
        return Body(tuple(self._clips), tuple(self._fields), self._are_many, tuple(self._names))

    def close(self) -> None:
        """Close the file of a part that did not end."""
        if self._file is not None:
            self._file.close()

    def _start_part(self) -> None:
        self._header_name = self._header_value = b""
        self._name = ""
        self._is_named_file = False
        self._file_name = ""
        self._value = bytearray()

    def _header_name_bytes(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end]

    def _header_value_bytes(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]

    def _end_header(self) -> None:
        if self._header_name.lower() == b"content-disposition":
            _, options = parse_options_header(self._header_value)
            self._name = options.get(b"name", b"").decode("utf-8", "replace")
            self._is_named_file = b"filename" in options
            self._file_name = options.get(b"filename", b"").decode("utf-8", "replace")[:MAX_NAME_CHARACTERS]
        self._header_name = self._header_value = b""

    def _end_headers(self) -> None:
        if not self._name:
            raise MalformedBodyError("A part of the form has no name.")
        if self._name in (FILE_FIELD, FILES_FIELD, f"{FILES_FIELD}[]"):
            self._start_clip(is_one_of_many=self._name != FILE_FIELD)
        elif self._is_named_file:
            raise MissingFileError(
                f"The clip is in a part named {self._name[:_FIELD_NAME_CHARACTERS]!r}; send it in the part "
                "named `file`: -F file=@clip.mp4 (or several, each in a part named `files`)"
            )
        elif len(self._name) > _FIELD_NAME_CHARACTERS:
            raise MalformedBodyError(
                f"The form has a field whose name is longer than {_FIELD_NAME_CHARACTERS} characters."
            )
        elif len(self._fields) >= self._limits.max_fields:
            raise TooManyLabelsError(f"The form has more than {self._limits.max_fields} fields.")

    def _start_clip(self, *, is_one_of_many: bool) -> None:
        if self._clips and is_one_of_many != self._are_many:
            raise InvalidOptionError(
                "Send either `file` or `files`: one clip, or several, each in a part named `files`."
            )
        if self._clips and not is_one_of_many:
            raise MalformedBodyError(
                "The form has two parts named `file`; send one clip a request, or several, each in a part "
                "named `files`."
            )
        if len(self._clips) >= MAX_FILES:
            raise InvalidOptionError(
                f"The form has more than {MAX_FILES} clips; send them in several requests."
            )
        self._are_many = is_one_of_many
        path = self._room.path(len(self._clips))
        self._clips.append(path)
        self._names.append(self._file_name)
        if not self._is_named_file:
            self._unnamed.append(path)
        self._file = path.open("wb")

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._file is not None:
            self._file.write(data[start:end])
            self.n_file_bytes += end - start
            return
        self.n_field_bytes += end - start
        if self.n_field_bytes > self._limits.max_field_bytes:
            raise BodyTooLargeError(
                f"The fields beside the clip are larger than {self._limits.max_field_bytes} bytes together."
            )
        self._value += data[start:end]

    def _end_part(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
            return
        try:
            self._fields.append((self._name, self._value.decode("utf-8")))
        except UnicodeDecodeError:
            raise MalformedBodyError(f"The field {self._name!r} is not UTF-8 text.") from None

    def _end(self) -> None:
        self._ended = True
