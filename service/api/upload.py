"""Read a multipart form while it arrives: the clip to disk, the other fields to memory."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from fastapi import Request
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.concurrency import run_in_threadpool

from service.api.byte_budget import ByteBudget
from service.api.upload_folder import UploadFolder
from service.errors import (
    BodyTooLargeError,
    InvalidOptionError,
    MalformedBodyError,
    MissingFileError,
    TooManyLabelsError,
    UploadUnavailableError,
)

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

FILE_FIELD = "file"
URL_FIELD = "url"
# As long as a path can be.
_MAX_PATH_BYTES = 4096


@dataclass(frozen=True)
class FormLimits:
    """What a form may hold besides the clip."""

    max_fields: int
    max_field_bytes: int
    """of all fields together."""


@dataclass(frozen=True)
class Upload:
    """A received form."""

    path: Path
    """the clip, or where it goes, under a neutral name in a directory of its own."""
    fields: tuple[tuple[str, str], ...]
    """the other fields in the order sent."""
    url: str | None = None
    """where the clip is, if it was not sent itself."""


@asynccontextmanager
async def receive_upload(
    request: Request, folder: UploadFolder, limits: FormLimits, budget: ByteBudget
) -> AsyncIterator[Upload]:
    """Receive a form; the clip is deleted when the context ends.

    Args:
        request: Its body must be multipart/form-data with one part named `file`, or one named `url`.
        folder: Where to put the clip.
        limits: For the other fields.
        budget: Of which their bytes are taken until the context ends.

    Raises:
        MalformedBodyError: Not such a form, or it ends early.
        MissingFileError: No part named `file`, or a path in place of a clip in it.
        InvalidOptionError: Both a file and a URL, or several URLs.
        BodyTooLargeError, TooManyLabelsError: Over the limits.
        OverloadedError: No room in memory for the other fields.
        UploadUnavailableError: No room on the disk.
    """
    boundary = _boundary(request)
    with folder.private() as private, budget.share() as share:
        path = private / "clip"
        try:
            with path.open("wb") as file:
                form = _Form(file, limits)
                parser = MultipartParser(boundary, form.callbacks)
                async for chunk in request.stream():
                    # In a thread: parsing and writing must not hold up other requests.
                    await run_in_threadpool(parser.write, chunk)
                    share.grow_to(form.n_field_bytes)
            upload = await run_in_threadpool(form.finish, path)
        except FormParserError as error:
            raise MalformedBodyError("The body is not a well-formed multipart form.") from error
        except OSError as error:
            raise UploadUnavailableError("The upload could not be put on disk; try again later.") from error
        yield upload


def _boundary(request: Request) -> bytes:
    kind, options = parse_options_header(request.headers.get("content-type"))
    if kind != b"multipart/form-data" or not options.get(b"boundary"):
        raise MalformedBodyError(
            "Send the clip as multipart/form-data, for example: "
            "curl -F file=@clip.mp4 -F labels=dog -F labels=cat"
        )
    return options[b"boundary"]


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

    Attributes:
        n_field_bytes: Size of the fields besides the clip so far.
    """

    def __init__(self, file: BinaryIO, limits: FormLimits) -> None:
        self._file = file
        self._limits = limits
        self._fields: list[tuple[str, str]] = []
        self.n_field_bytes = 0
        self._has_file = False
        self._file_is_named = False
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

    def finish(self, path: Path) -> Upload:
        """The whole form, once the body has ended."""
        if not self._ended:
            raise MalformedBodyError("The multipart form ends before its last boundary; send it again.")
        urls = [value for name, value in self._fields if name == URL_FIELD]
        if self._has_file + len(urls) > 1:
            raise InvalidOptionError("Send one clip a request: either a file or one url.")
        if urls:
            return Upload(path, tuple(self._fields), urls[0])
        if not self._has_file:
            raise MissingFileError("The form has no part named `file`; send the clip as: -F file=@clip.mp4")
        if not self._file_is_named and _is_short_text(path):
            raise MissingFileError(
                "The part named `file` holds a line of text, not a clip; with curl an @ goes before the "
                "path: -F file=@clip.mp4"
            )
        return Upload(path, tuple(self._fields))

    def _start_part(self) -> None:
        self._header_name = self._header_value = b""
        self._name = ""
        self._is_file = False
        self._value = bytearray()

    def _header_name_bytes(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end]

    def _header_value_bytes(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]

    def _end_header(self) -> None:
        if self._header_name.lower() == b"content-disposition":
            _, options = parse_options_header(self._header_value)
            self._name = options.get(b"name", b"").decode("utf-8", "replace")
            self._is_file = b"filename" in options
        self._header_name = self._header_value = b""

    def _end_headers(self) -> None:
        if not self._name:
            raise MalformedBodyError("A part of the form has no name.")
        if self._name == FILE_FIELD:
            if self._has_file:
                raise MalformedBodyError("The form has two parts named `file`; send one clip a request.")
            self._has_file = True
            self._file_is_named = self._is_file
        elif self._is_file:
            raise MissingFileError(
                f"The clip is in a part named {self._name[:80]!r}; send it in the part named `file`: "
                "-F file=@clip.mp4"
            )
        elif len(self._fields) >= self._limits.max_fields:
            raise TooManyLabelsError(f"The form has more than {self._limits.max_fields} fields.")

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._name == FILE_FIELD:
            self._file.write(data[start:end])
            return
        self.n_field_bytes += end - start
        if self.n_field_bytes > self._limits.max_field_bytes:
            raise BodyTooLargeError(
                f"The fields beside the clip are larger than {self._limits.max_field_bytes} bytes together."
            )
        self._value += data[start:end]

    def _end_part(self) -> None:
        if self._name == FILE_FIELD:
            return
        try:
            self._fields.append((self._name, self._value.decode("utf-8")))
        except UnicodeDecodeError:
            raise MalformedBodyError(f"The field {self._name[:80]!r} is not UTF-8 text.") from None

    def _end(self) -> None:
        self._ended = True
