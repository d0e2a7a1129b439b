"""Read a JSON body with the clip in base64.

The whole body is held in memory, and so has the limit of other JSON bodies, which is far below that of
uploads: no maintained parser hands out a single long text in parts. Larger clips can be sent in the other
ways, which go to disk as they come and take a quarter fewer bytes.
"""

from __future__ import annotations

import binascii
import json
from typing import Any

from fastapi import Request
from pydantic_core import from_json
from starlette.concurrency import run_in_threadpool

from service.api.headers import declared_length
from service.api.intake.body import FILE_FIELD, Body, Fields, FormLimits, Room
from service.errors import BodyTooLargeError, InvalidOptionError, MalformedBodyError, TooManyLabelsError


async def read_json(request: Request, room: Room, limits: FormLimits) -> Body:
    """Read a JSON object: its `file` to disk, all else as fields.

    Raises:
        MalformedBodyError: No JSON object, or no base64 in it.
        BodyTooLargeError: Over the limit.
        InvalidOptionError: A member that can't be an option.
        TooManyLabelsError: Too many members.
        OverloadedError: All that is held in memory, or all uploads together, are as large as they may be.
        OSError: The clip can't be written.
    """
    raw = await read_bounded(request, room, limits)
    # In threads: large bodies must not hold up other requests.
    fields, clip = await run_in_threadpool(_unpack, raw, limits.max_fields)
    if clip is None:
        return Body((), fields)
    room.on_disk.grow_to(len(clip))
    path = room.path()
    await run_in_threadpool(path.write_bytes, clip)
    return Body((path,), fields)


async def read_bounded(request: Request, room: Room, limits: FormLimits) -> bytes:
    """The body, which is counted as it comes.

    Raises:
        BodyTooLargeError: Over the limit, by its declared length already.
        OverloadedError: All that is held in memory is as large as it may be.
    """
    maximum = limits.max_field_bytes
    if (declared_length(request.headers) or 0) > maximum:
        raise _too_large(maximum)
    chunks: list[bytes] = []
    n_bytes = 0
    async for chunk in request.stream():
        n_bytes += len(chunk)
        if n_bytes > maximum:
            raise _too_large(maximum)
        room.in_memory.grow_to(n_bytes)
        chunks.append(chunk)
    return b"".join(chunks)


def _too_large(maximum: int) -> BodyTooLargeError:
    return BodyTooLargeError(
        f"A JSON body may have {maximum} bytes. Send a larger clip as a form (curl -F file=@clip.mp4), or as "
        "the body itself with its own Content-Type, such as video/mp4."
    )


def _unpack(raw: bytes, max_fields: int) -> tuple[Fields, bytes | None]:
    """The fields and the clip of a JSON object."""
    try:
        body = from_json(raw, allow_inf_nan=False)
    except ValueError:
        raise MalformedBodyError("The body is not valid JSON.") from None
    if not isinstance(body, dict):
        raise MalformedBodyError("The body must be a JSON object.")
    file = body.pop(FILE_FIELD, None)
    sent = [(name, value) for name, value in body.items() if value is not None]
    if len(sent) > max_fields:
        raise TooManyLabelsError(f"The request has more than {max_fields} fields.")
    fields = tuple((name, _as_field(name, value)) for name, value in sent)
    return fields, None if file is None else decode_base64(file, FILE_FIELD)


def _as_field(name: str, value: Any) -> str:
    """A value as a form has it; a list stays JSON, so that nothing in it can be taken for a list again."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool | dict):
        raise InvalidOptionError(f"{name[:80]} must be a text, a number or a list of texts.")
    # In JSON 5.0 is a whole number.
    return json.dumps(int(value) if isinstance(value, float) and value.is_integer() else value)


def decode_base64(text: object, where: str) -> bytes:
    """The bytes of base64 (RFC 4648, section 4), which may be broken into lines or be in a `data:` URL.

    Args:
        text: As it was sent.
        where: Its place in the body, for the message.

    Raises:
        MalformedBodyError: It is no base64.
    """
    if isinstance(text, str):
        payload = text.partition(",")[2] if text.startswith("data:") else text
        try:
            return binascii.a2b_base64("".join(payload.split()), strict_mode=True)
        except ValueError:
            pass
    raise MalformedBodyError(
        f"`{where}` is not base64 with its padding; encode the clip with: base64 -w0 clip.mp4. Or send it as "
        "a form (curl -F file=@clip.mp4), or as the body itself with its own Content-Type, such as video/mp4."
    )
