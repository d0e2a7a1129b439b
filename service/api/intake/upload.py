"""Turn any request into clips on disk and fields in memory, whatever its Content-Type."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from fastapi import Request
from python_multipart.multipart import parse_options_header

from service.api.guard.byte_budget import ByteBudget, ByteShare
from service.api.intake.body import Body, Fields, FormLimits, Room
from service.api.intake.json_clip import read_json
from service.api.intake.multipart import read_multipart
from service.api.intake.raw_clip import read_raw
from service.api.intake.upload_folder import UploadFolder
from service.errors import (
    InvalidOptionError,
    MalformedBodyError,
    MissingFileError,
    TooManyLabelsError,
    UploadUnavailableError,
)

URL_FIELD = "url"
RAW_KINDS = ("video/", "audio/", "image/")
OTHER_RAW_KINDS = ("application/octet-stream", "application/ogg", "application/mp4", "application/mxf")


@dataclass(frozen=True)
class Upload:
    """A received clip.

    Attributes:
        path: The clip, or where it goes, under a neutral name in a folder of its request.
        share: Counts the bytes of that folder.
        fields: All else that was sent.
        url: Where the clip is, if it was not sent itself.
    """

    path: Path
    share: ByteShare
    fields: Fields
    url: str | None


@dataclass(frozen=True)
class Uploads:
    """All that one request brought.

    Attributes:
        clips: At least one, in the order sent; all have the same fields.
        are_many: Whether they were sent as a list (`files`), even if of one: each then has its own answer.
        names: Their file names, empty where none was sent.
    """

    clips: tuple[Upload, ...]
    are_many: bool
    names: tuple[str, ...]

    @property
    def fields(self) -> Fields:
        """All else that was sent."""
        return self.clips[0].fields


@asynccontextmanager
async def receive_uploads(
    request: Request, folder: UploadFolder, limits: FormLimits, budget: ByteBudget
) -> AsyncIterator[Uploads]:
    """Receive a request with one clip or several, which are deleted when the context ends.

    A clip is a part of a multipart form, or the body itself, or base64 in JSON, or at a URL. Fields may be in
    the query, too.

    Args:
        request: Its body has not been read.
        folder: Where to put clips.
        limits: For all else.
        budget: Of which the bytes of all else are taken until the context ends.

    Raises:
        MalformedBodyError: None of these, or it ends early.
        MissingFileError: No clip, or a path in place of one.
        InvalidOptionError: Both a file and a URL, or several URLs, or a field in the query and in the body.
        BodyTooLargeError, TooManyLabelsError: Over the limits.
        OverloadedError: All uploads together, or all that is held in memory, are as large as they may be.
        UploadUnavailableError: No room on the disk.
    """
    with folder.private() as private, budget.share() as share:
        room = Room(private.path, private.share, share)
        try:
            body = await _read(request, room, limits)
        except OSError as error:
            raise UploadUnavailableError("The upload could not be put on disk; try again later.") from error
        fields = (*request.query_params.multi_items(), *body.fields)
        if len(fields) > limits.max_fields:
            raise TooManyLabelsError(f"The request has more than {limits.max_fields} fields.")
        _check_sent_in_one_place(request.query_params.keys(), body.fields)
        url = _url(fields, n_clips=len(body.clips))
        uploads = (Upload(path, private.share, fields, url) for path in body.clips or (room.path(),))
        yield Uploads(tuple(uploads), body.are_many, body.names or ("",) * max(1, len(body.clips)))


async def _read(request: Request, room: Room, limits: FormLimits) -> Body:
    """Read a body as its Content-Type says."""
    header, options = parse_options_header(request.headers.get("content-type"))
    kind, boundary = header.decode("latin-1"), options.get(b"boundary")
    if kind == "multipart/form-data" and boundary:
        return await read_multipart(request, room, limits, boundary)
    if kind == "application/json":
        return await read_json(request, room, limits)
    if kind.startswith(RAW_KINDS) or kind in OTHER_RAW_KINDS:
        return await read_raw(request, room)
    raise MalformedBodyError(
        "Send the clip as a form (multipart/form-data: curl -F file=@clip.mp4 -F labels=dog -F labels=cat), "
        "as the body itself with its own Content-Type, such as video/mp4, and all else in the query "
        "(?labels=dog&labels=cat), or in base64 as `file` of a JSON object (application/json)."
    )


def _check_sent_in_one_place(of_query: Iterable[str], of_body: Fields) -> None:
    """Also lists, which would become one, in an order that nobody has asked for."""
    in_query = {name.removesuffix("[]") for name in of_query}
    for name, _ in of_body:
        if name.removesuffix("[]") in in_query:
            raise InvalidOptionError(
                f"The field {name[:80]!r} is both in the query and in the body; send it in one of them."
            )


def _url(fields: Fields, *, n_clips: int) -> str | None:
    """Where the clip is, if it was not sent itself."""
    urls = [value for name, value in fields if name == URL_FIELD]
    if len(urls) + min(n_clips, 1) > 1:
        raise InvalidOptionError("Send one clip a request: either a file or one url.")
    if not urls and not n_clips:
        raise MissingFileError(
            "The request has no clip. Send it as the part `file` of a form (-F file=@clip.mp4), as the body "
            "itself, or in base64 as `file` of a JSON object."
        )
    return urls[0] if urls else None
