"""Saying why a file could not be opened: a still image, a playlist, a clip cut short, or no media at all."""

from typing import BinaryIO

from service.errors import MediaError, NotMediaError, TruncatedMediaError

HEAD_BYTES = 64
_IMAGE_STARTS = (b"\x89PNG", b"\xff\xd8\xff", b"BM", b"II*\0", b"MM\0*", b"\0\0\1\0", b"8BPS")
_HEIF_BRANDS = (b"avif", b"heic", b"heix", b"mif1")
_LIST_STARTS = (b"#EXTM3U", b"ffconcat", b"<?xml", b"<MPD", b"v=0", b"[playlist]")
# More top-level boxes than any real file has before its index.
_MAX_BOXES = 64


def explain_unreadable(file: BinaryIO, size_bytes: int) -> MediaError:
    """The error for a file that FFmpeg refused, from its first bytes."""
    head = file.read(HEAD_BYTES)
    if head.startswith(_IMAGE_STARTS) or (head.startswith(b"RIFF") and head[8:12] == b"WEBP"):
        return still_image()
    if head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(_LIST_STARTS):
        return NotMediaError(
            "This is a playlist or a description that points to media. Send the clip itself."
        )
    if head[4:8] == b"ftyp" and not _has_index(file, size_bytes):
        return TruncatedMediaError(
            "The clip ends before its index: the file was cut short. Send it again, whole."
        )
    return NotMediaError(
        "This is not a clip that can be read, or it is damaged. "
        "Send MP4, MOV, WebM, MKV, AVI, MPEG, GIF, WAV, MP3, FLAC, Ogg or AAC."
    )


def is_heif(head: bytes) -> bool:
    """Whether a file starts like an AVIF or HEIF picture, which FFmpeg opens as if it were an MP4."""
    return head[4:8] == b"ftyp" and head[8:12] in _HEIF_BRANDS


def still_image() -> NotMediaError:
    """The error for a picture that is no clip."""
    return NotMediaError("This is a still image. Send a video or audio clip; an animated GIF also works.")


def _has_index(file: BinaryIO, size_bytes: int) -> bool:
    """Whether an MP4 file has its `moov` box, walking over the top-level boxes."""
    position = 0
    for _ in range(_MAX_BOXES):
        file.seek(position)
        header = file.read(16)
        if len(header) < 8 or position >= size_bytes:
            return False
        if header[4:8] == b"moov":
            return True
        length = int.from_bytes(header[:4])
        if length == 1 and len(header) == 16:
            length = int.from_bytes(header[8:16])
        if length < 8:
            return False
        position += length
    return False
