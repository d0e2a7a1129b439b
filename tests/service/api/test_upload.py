"""The streaming form reader: any chunking, and every malformed form."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import Request

from service.api.byte_budget import ByteBudget
from service.api.upload import FormLimits, receive_upload
from service.api.upload_folder import UploadFolder
from service.errors import (
    AhseError,
    BodyTooLargeError,
    MalformedBodyError,
    MissingFileError,
    OverloadedError,
    TooManyLabelsError,
)

LIMITS = FormLimits(max_fields=3, max_field_bytes=100)
FILE = (
    b'--b\r\nContent-Disposition: form-data; name="file"; filename="../../x.mp4"\r\n\r\n\x00--b\r\r\n\x01\r\n'
)
END = b"--b--\r\n"


def _field(name: str, value: bytes) -> bytes:
    return b'--b\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n' % (name.encode(), value)


def _receive(
    body: bytes,
    directory: Path,
    step: int = 10_000,
    kind: str = "multipart/form-data; boundary=b",
    room: int = 1_000,
) -> Any:
    chunks = [body[start : start + step] for start in range(0, len(body), step)] or [b""]

    async def receive() -> dict[str, Any]:
        chunk = chunks.pop(0)
        return {"type": "http.request", "body": chunk, "more_body": bool(chunks)}

    async def run() -> Any:
        scope = {"type": "http", "method": "POST", "headers": [(b"content-type", kind.encode())]}
        with UploadFolder(directory) as folder:
            async with receive_upload(Request(scope, receive), folder, LIMITS, ByteBudget(room)) as upload:
                return upload.path.read_bytes(), upload.fields, upload.path

    return asyncio.run(run())


@pytest.mark.parametrize("step", [1, 2, 7, 64, 10_000])
def test_a_form_in_any_chunks(tmp_path: Path, step: int) -> None:
    """Boundaries and headers may be cut anywhere; the client's file name is not used; nothing is left."""
    body = _field("labels", b"caf\xc3\xa9") + FILE + _field("labels", b"b") + END
    content, fields, path = _receive(body, tmp_path, step)
    assert content == b"\x00--b\r\r\n\x01"
    assert fields == (("labels", "caf\u00e9"), ("labels", "b"))
    assert path.name == "clip"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"", MalformedBodyError),
        (b"nonsense", MalformedBodyError),
        (FILE, MalformedBodyError),
        (FILE + FILE + END, MalformedBodyError),
        (b"--b\r\n\r\nx\r\n" + END, MalformedBodyError),
        (_field("labels", b"\xff") + FILE + END, MalformedBodyError),
        (b"--b\r\nX: " + b"y" * 100_000 + b"\r\n\r\n" + END, MalformedBodyError),
        (_field("labels", b"dog") + END, MissingFileError),
        (_field("labels", b"x" * 101) + FILE + END, BodyTooLargeError),
        (_field("labels", b"x") * 4 + FILE + END, TooManyLabelsError),
    ],
)
def test_bad_forms_are_refused_and_leave_nothing(tmp_path: Path, body: bytes, error: type[AhseError]) -> None:
    """Cut short, doubled, nameless, not UTF-8, too large."""
    with pytest.raises(error):
        _receive(body, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "kind", ["", "application/json", "multipart/form-data", "multipart/mixed; boundary=b"]
)
def test_other_content_types_are_told_how(tmp_path: Path, kind: str) -> None:
    """The message shows a call that works."""
    with pytest.raises(MalformedBodyError, match="curl -F file=@"):
        _receive(FILE + END, tmp_path, kind=kind)


def test_a_clip_in_another_part_is_pointed_to_the_right_one(tmp_path: Path) -> None:
    """As of `curl -F video=@clip.mp4`."""
    body = FILE.replace(b'name="file"', b'name="video"') + END
    with pytest.raises(MissingFileError, match="in a part named 'video'; send it in the part named `file`"):
        _receive(body, tmp_path)


def test_a_path_in_place_of_a_clip_is_recognised(tmp_path: Path) -> None:
    """As of `curl -F file=clip.mp4`, without the @."""
    with pytest.raises(MissingFileError, match="an @ goes before the path"):
        _receive(_field("file", b"clips/caf\xc3\xa9 1.mp4") + END, tmp_path)


@pytest.mark.parametrize("content", [b"RIFF\x00\x00", b"a" * 5000, b""])
def test_a_part_without_a_file_name_may_hold_a_clip(tmp_path: Path, content: bytes) -> None:
    """Some clients send none; what is no text, or longer than any path, is left to the decoder."""
    assert _receive(_field("file", content) + END, tmp_path)[0] == content


def test_fields_take_their_bytes_of_the_budget(tmp_path: Path) -> None:
    """136 forms of 8 MB of names would be a gigabyte; what is too much is refused while it arrives."""
    body = _field("labels", b"x" * 60) + FILE + END
    assert _receive(body, tmp_path, room=60)[1] == (("labels", "x" * 60),)
    with pytest.raises(OverloadedError):
        _receive(body, tmp_path, room=59)
    assert list(tmp_path.iterdir()) == []
