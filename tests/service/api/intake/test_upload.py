"""Readers of bodies: any chunking, every kind of body, and every malformed one."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import Request

from service.api.guard import byte_budget
from service.api.guard.byte_budget import ByteBudget
from service.api.intake.body import FormLimits, pieces
from service.api.intake.json_clip import decode_base64
from service.api.intake.upload import receive_uploads
from service.api.intake.upload_folder import UploadFolder
from service.errors import (
    AhseError,
    BodyTooLargeError,
    InvalidOptionError,
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


def _receive_all(
    body: bytes,
    directory: Path,
    step: int = 10_000,
    kind: str = "multipart/form-data; boundary=b",
    room: int = 1_000,
    on_disk: int = 1_000,
    query: str = "",
) -> tuple[list[bytes], tuple[tuple[str, str], ...], bool]:
    """Contents of the clips, the fields, and whether the clips were sent as a list."""
    chunks = [body[start : start + step] for start in range(0, len(body), step)] or [b""]

    async def receive() -> dict[str, Any]:
        chunk = chunks.pop(0)
        return {"type": "http.request", "body": chunk, "more_body": bool(chunks)}

    async def run() -> tuple[list[bytes], tuple[tuple[str, str], ...], bool]:
        headers = [(b"content-type", kind.encode())]
        scope = {"type": "http", "method": "POST", "headers": headers, "query_string": query.encode()}
        with UploadFolder(directory, on_disk) as folder:
            received = receive_uploads(Request(scope, receive), folder, LIMITS, ByteBudget(room))
            async with received as uploads:
                paths = [one.path for one in uploads.clips]
                assert {path.name.partition("-")[0] for path in paths} == {"clip"}
                return [path.read_bytes() for path in paths], uploads.fields, uploads.are_many

    return asyncio.run(run())


def _receive(
    body: bytes, directory: Path, *args: Any, **options: Any
) -> tuple[bytes, tuple[tuple[str, str], ...]]:
    """Content of the one clip, and the fields."""
    (content,), fields, _ = _receive_all(body, directory, *args, **options)
    return content, fields


@pytest.mark.parametrize(
    ("chunks", "expected"),
    [
        ([10] * 100, [640, 360]),
        ([300_000] * 3, [600_000, 300_000]),
        ([600_000, 1], [600_000, 1]),
        ([5, 0], [5]),
        ([0], []),
    ],
)
def test_threads_get_pieces_that_are_worth_it(chunks: list[int], expected: list[int]) -> None:
    """Half a megabyte, or 64 chunks; each change of threads costs more than writing a chunk does."""
    body = b"".join(bytes([i % 256]) * n for i, n in enumerate(chunks))

    async def stream() -> AsyncIterator[bytes]:
        for i, n in enumerate(chunks):
            yield body[sum(chunks[:i]) :][:n]

    async def run() -> list[bytes]:
        return [piece async for piece in pieces(stream())]

    found = asyncio.run(run())
    assert [len(piece) for piece in found] == expected
    assert b"".join(found) == body


@pytest.mark.parametrize("step", [1, 2, 7, 64, 10_000])
def test_a_form_in_any_chunks(tmp_path: Path, step: int) -> None:
    """Boundaries and headers may be cut anywhere; the client's file name is not used; nothing is left."""
    body = _field("labels", b"caf\xc3\xa9") + FILE + _field("labels", b"b") + END
    content, fields = _receive(body, tmp_path, step)
    assert content == b"\x00--b\r\r\n\x01"
    assert fields == (("labels", "caf\u00e9"), ("labels", "b"))
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
        (_field("x" * 81, b"") + FILE + END, MalformedBodyError),
        (b"--b\r\nX: " + b"y" * 100_000 + b"\r\n\r\n" + END, MalformedBodyError),
        (_field("labels", b"dog") + END, MissingFileError),
        (_field("labels", b"x" * 101) + FILE + END, BodyTooLargeError),
        (_field("labels", b"x") * 4 + FILE + END, TooManyLabelsError),
    ],
)
def test_bad_forms_are_refused_and_leave_nothing(tmp_path: Path, body: bytes, error: type[AhseError]) -> None:
    """Cut short, doubled, nameless, with long names, not UTF-8, too large."""
    with pytest.raises(error):
        _receive(body, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["", "text/plain", "multipart/form-data", "multipart/mixed; boundary=b"])
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


def test_large_fields_take_their_bytes_of_the_budget(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """136 forms of 8 MB of names would be a gigabyte; what is too much is refused while it arrives."""
    monkeypatch.setattr(byte_budget, "SMALL_BYTES", 10)
    body = _field("labels", b"x" * 60) + FILE + END
    assert _receive(body, tmp_path, room=50)[1] == (("labels", "x" * 60),)
    with pytest.raises(OverloadedError):
        _receive(body, tmp_path, room=49)
    assert list(tmp_path.iterdir()) == []


def test_a_clip_takes_its_bytes_of_what_uploads_may_take(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """136 uploads of 512 MB would be 70 GB, of memory where they go to a tmpfs."""
    monkeypatch.setattr(byte_budget, "SMALL_BYTES", 0)
    body = FILE + END
    assert _receive(body, tmp_path, on_disk=9)[0] == b"\x00--b\r\r\n\x01"
    with pytest.raises(OverloadedError):
        _receive(body, tmp_path, on_disk=7)
    assert list(tmp_path.iterdir()) == []


def test_several_clips_come_in_the_order_sent(tmp_path: Path) -> None:
    """Each has a file of its own, also where fields are between them, and one alone is still a list."""
    parts = [_field("files", b"one\0"), _field("labels", b"dog"), _field("files[]", b"two\0")]
    uploads = _receive_all(b"".join(parts) + END, tmp_path)
    assert uploads == ([b"one\0", b"two\0"], (("labels", "dog"),), True)
    assert _receive_all(_field("files", b"one\0") + END, tmp_path)[2]
    assert not _receive_all(FILE + END, tmp_path)[2]


@pytest.mark.parametrize(
    ("parts", "error", "why"),
    [
        (("file", "files"), InvalidOptionError, "either `file` or `files`"),
        (("files", "file"), InvalidOptionError, "either `file` or `files`"),
        (("file", "file"), MalformedBodyError, "two parts named `file`"),
    ],
)
def test_one_clip_and_a_list_of_clips_do_not_mix(
    tmp_path: Path, parts: tuple[str, ...], error: type[AhseError], why: str
) -> None:
    """The message names what is wrong, and what to send."""
    body = b"".join(_field(name, b"\0") for name in parts) + END
    with pytest.raises(error, match=f"{why}.* each in a part named `files`"):
        _receive_all(body, tmp_path)


def test_the_number_of_clips_is_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A body of empty parts would otherwise be millions of files; none of them is left."""
    monkeypatch.setattr("service.api.intake.multipart.MAX_FILES", 2)
    with pytest.raises(InvalidOptionError, match="more than 2 clips"):
        _receive_all(_field("files", b"\0") * 3 + END, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_several_clips_share_what_uploads_may_take(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All parts of a form count together."""
    monkeypatch.setattr(byte_budget, "SMALL_BYTES", 0)
    with pytest.raises(OverloadedError):
        _receive_all(_field("files", b"12345") * 2 + END, tmp_path, on_disk=9)


@pytest.mark.parametrize("kind", ["video/mp4", "AUDIO/wav", "image/png", "application/octet-stream"])
def test_a_body_that_is_the_clip(tmp_path: Path, kind: str) -> None:
    """All else is in the query: repeated, with or without brackets, or as a JSON array."""
    content, fields = _receive(b"\0\1", tmp_path, kind=kind, query="labels=a&labels[]=b%2Cc&top_k=")
    assert content == b"\0\1"
    assert fields == (("labels", "a"), ("labels[]", "b,c"), ("top_k", ""))
    assert list(tmp_path.iterdir()) == []


def test_the_query_holds_no_more_fields_than_a_form(tmp_path: Path) -> None:
    """Together with those of the body."""
    with pytest.raises(TooManyLabelsError):
        _receive(_field("labels", b"x") * 2 + FILE + END, tmp_path, query="labels=a&labels=b")


@pytest.mark.parametrize("query", ["labels=a", "labels[]=a", "top_k=1&labels="])
@pytest.mark.parametrize("name", ["labels", "labels[]"])
def test_a_field_in_the_query_and_in_the_body_is_refused(tmp_path: Path, query: str, name: str) -> None:
    """Also a list, which would be put together of both."""
    with pytest.raises(InvalidOptionError, match=r"labels.* is both in the query and in the body"):
        _receive(_field(name, b"x") + FILE + END, tmp_path, query=query)
    assert _receive(_field(name, b"x") + FILE + END, tmp_path, query="top_k=1")[1][0] == ("top_k", "1")


def test_a_clip_in_json(tmp_path: Path) -> None:
    """Numbers and lists become what they are in a form, and null is nothing."""
    body = {"file": "AAEC", "labels": ["a, b"], "top_k": 3, "calibration": 1.5, "segment_s": None}
    content, fields = _receive(json.dumps(body).encode(), tmp_path, 1, "application/json; charset=utf-8")
    assert content == b"\0\1\2"
    assert fields == (("labels", '["a, b"]'), ("top_k", "3"), ("calibration", "1.5"))


@pytest.mark.parametrize("text", ["AAEC", "data:video/mp4;base64,AAEC", "AA\nEC\n"])
def test_base64_as_it_is_usually_written(text: str) -> None:
    """Plain, as a data: URL of a browser, and broken into lines as `base64` prints it."""
    assert decode_base64(text, "file") == b"\0\1\2"


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"", MalformedBodyError),
        (b"[]", MalformedBodyError),
        (b'{"file": "AAEC", "top_k": NaN}', MalformedBodyError),
        (b'{"file": "AAE"}', MalformedBodyError),
        (b'{"file": "A-_C"}', MalformedBodyError),
        (b'{"file": 7}', MalformedBodyError),
        (b"[" * 90, MalformedBodyError),
        (b'{"file": "AAEC", "labels": {"a": 1}}', InvalidOptionError),
        (b'{"file": "AAEC", "top_k": true}', InvalidOptionError),
        (b'{"file": "AAEC", "a": 1, "b": 1, "c": 1, "d": true}', TooManyLabelsError),
        (b'{"labels": ["a"]}', MissingFileError),
        (b'{"file": "%s"}' % (b"A" * 100), BodyTooLargeError),
    ],
)
def test_bad_json_is_refused_and_leaves_nothing(tmp_path: Path, body: bytes, error: type[AhseError]) -> None:
    """No JSON, no object, no base64, no option, no clip, too large."""
    with pytest.raises(error):
        _receive(body, tmp_path, kind="application/json")
    assert list(tmp_path.iterdir()) == []


def test_json_takes_its_bytes_of_the_budget_of_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And its clip of that of the disk."""
    monkeypatch.setattr(byte_budget, "SMALL_BYTES", 0)
    body = b'{"file": "AAEC"}'
    assert _receive(body, tmp_path, kind="application/json", room=len(body), on_disk=3)[0] == b"\0\1\2"
    for limits in ({"room": len(body) - 1}, {"on_disk": 2}):
        with pytest.raises(OverloadedError):
            _receive(body, tmp_path, 1, "application/json", **limits)
