"""Which files `ahse classify` ranks: files, folders, patterns, and a clip on standard input."""

from __future__ import annotations

import glob
import os
import shutil
import stat
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path, PurePath
from typing import BinaryIO, Literal

from service.errors import ClipUnavailableError, InvalidOptionError

STDIN = "-"
NO_MATCH = "no file matches this pattern"
_HEAD_BYTES = 1024
_PACKET_BYTES = 188  # of MPEG transport streams
# A file in a folder that is called so is tried even where its content looks like nothing: it may be damaged.
_ENDINGS = frozenset((
    ".mp4", ".m4v", ".mov", ".qt", ".mkv", ".webm", ".avi", ".dv", ".wmv", ".flv", ".mxf", ".ogv", ".gif",
    ".mpg", ".mpeg", ".mpe", ".m1v", ".m2v", ".vob", ".m2t", ".m2ts", ".trp", ".3gp", ".3g2", ".asf", ".f4v",
    ".264", ".h264", ".265", ".h265", ".hevc", ".ivf", ".obu", ".y4m", ".apng",
    ".wav", ".mp3", ".m4a", ".aac", ".flac", ".ogg", ".oga", ".opus", ".spx", ".weba", ".aif", ".aiff",
    ".aifc", ".wma", ".mka", ".m4b", ".mp2", ".ac3", ".eac3", ".amr", ".au", ".caf", ".w64", ".wv",
))  # fmt: skip
# MPEG transport streams, and programs in TypeScript: only where the content can't be looked at.
_UNSURE_ENDINGS = frozenset((".ts", ".mts"))
_IMAGE_ENDINGS = frozenset((
    ".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".ico", ".psd", ".avif", ".heic", ".heif",
))  # fmt: skip
# First bytes of containers and of streams without one.
_MEDIA_STARTS = (
    b"\x1aE\xdf\xa3", b"OggS", b"fLaC", b"ID3", b"GIF8", b"FLV\x01", b"FORM", b"riff", b"caff", b".snd",
    b"wvpk", b"DKIF", b"YUV4MPEG2 ", b"#!AMR", b"\x0b\x77", b"\x30\x26\xb2\x75", b"\x06\x0e\x2b\x34",
    b"\x1f\x07\x00", b"\x12\x00\x0a", b"\x00\x00\x01\xba", b"\x00\x00\x01\xb3", b"\x00\x00\x01\xb0",
)  # fmt: skip
_MP4_BOXES = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot")
_IMAGE_STARTS = (b"\x89PNG", b"\xff\xd8\xff", b"BM", b"II*\0", b"MM\0*", b"\0\0\1\0", b"8BPS")
_HEIF_BRANDS = (b"avif", b"heic", b"heix", b"mif1")

Kind = Literal["media", "image", "other"]
# Why a file of a folder is left out.
REASONS: Mapping[str, str] = {"hidden": "hidden", "image": "images", "other": "not media"}


@dataclass(frozen=True)
class ClipFile:
    """A file to rank.

    Attributes:
        name: As records have it: the path as it was given, or found below the folder that was given. Bytes
            that are not UTF-8 are written as escapes.
        path: Opens it.
        below: The path relative to the folder that was given; else the name of the file.
        size_bytes: None for standard input, and where there is no file.
        modified: ISO 8601 time of its last change, or None as the size.
        problem: Why it can't be opened; empty: it may be.
        code: Of the problem; `clip_unavailable` where that may be over at another time.
        spooled: Keeps what came on standard input until it is ranked.
    """

    name: str
    path: Path
    below: Path
    size_bytes: int | None = None
    modified: str | None = None
    problem: str = ""
    code: str = "missing_file"
    spooled: BinaryIO | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True)
class Found:
    """What the words of a command line stand for.

    Attributes:
        clips: Each once, in the order given, those of a folder in order of path.
        skipped: Files of folders by the reason for which they were skipped.
    """

    clips: tuple[ClipFile, ...]
    skipped: Counter[str]

    def skipped_text(self) -> str:
        """For the user: what was skipped; empty if nothing was."""
        named = ", ".join(f"{reason}: {n}" for reason, n in sorted(self.skipped.items()))
        how = " (a pattern, such as 'CLIPS/*', takes all that it matches)"
        return named + (how if self.skipped[REASONS["image"]] or self.skipped[REASONS["other"]] else "")


def find_clips(words: Sequence[str]) -> Found:
    """Find the clips of a command line.

    Args:
        words: Files, folders (searched to the bottom), patterns such as `clips/**/*.mp4`, or - for a clip on
            standard input.

    Raises:
        InvalidOptionError: A word is empty, or standard input is a terminal.
    """
    skipped: Counter[str] = Counter()
    clips: dict[str, ClipFile] = {}
    for word in words:
        if not word:  # an unset variable of a shell; as a path it would be the current folder
            raise InvalidOptionError("the name of a clip is empty; write . for the current folder")
        for clip in _find(word, skipped):
            clips.setdefault(clip.name, clip)
    return Found(tuple(clips.values()), skipped)


def _find(word: str, skipped: Counter[str]) -> Iterator[ClipFile]:
    path = Path(word)
    if word == STDIN:
        yield _spool()
    # Unlike those of Path, these answer also where a folder may not be entered, or a name is too long.
    elif os.path.isdir(path):  # noqa: PTH112
        yield from _walk(path, skipped)
    elif os.path.exists(path) or not glob.has_magic(word):  # noqa: PTH110
        yield clip_at(path, Path(path.name))
    else:
        found = glob.glob(word, recursive=True)  # noqa: PTH207
        matches = sorted(filter(os.path.isfile, found))
        yield from (clip_at(Path(name), Path(Path(name).name)) for name in matches)
        if not matches:
            yield ClipFile(word, path, Path(path.name), problem=NO_MATCH)


def _walk(top: Path, skipped: Counter[str]) -> Iterator[ClipFile]:
    """The media of a folder, by their content. Links to folders, which may lead in circles, are left."""

    def unreadable(_: OSError) -> None:
        skipped["folders that can't be opened"] += 1

    for folder, folders, files in os.walk(top, onerror=unreadable):
        shown = sorted(one for one in folders if not one.startswith("."))
        skipped["hidden"] += len(folders) - len(shown)
        # Unlike that of Path, this answers also where the folder may be listed but not entered.
        folders[:] = [one for one in shown if not os.path.islink(os.path.join(folder, one))]  # noqa: PTH114, PTH118
        skipped["links to folders"] += len(shown) - len(folders)
        for name in sorted(files):
            path = Path(folder, name)
            kind = "hidden" if name.startswith(".") else _kind_in_folder(path)
            if kind == "media":
                yield clip_at(path, path.relative_to(top))
            else:
                skipped[REASONS[kind]] += 1
    for reason in [reason for reason, n in skipped.items() if not n]:
        del skipped[reason]


def _kind_in_folder(path: Path) -> Kind:
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return "other"
        with path.open("rb") as file:
            kind = kind_of(file.read(_HEAD_BYTES))
    except OSError:
        kind = "other"
    return "media" if kind == "other" and path.suffix.lower() in _ENDINGS else kind


def kind_by_name(name: str) -> Kind:
    """What a file should be by its ending, where its content can't be looked at."""
    ending = PurePath(name).suffix.lower()
    if claims_media(name) or ending in _UNSURE_ENDINGS:
        return "media"
    return "image" if ending in _IMAGE_ENDINGS else "other"


def claims_media(name: str) -> bool:
    """Whether its ending is one that only media have."""
    return PurePath(name).suffix.lower() in _ENDINGS


def kind_of(head: bytes) -> Kind:
    """What a file is by its first bytes, as far as those of media and images are known.

    Args:
        head: The first 1024 bytes, or all of a shorter file.
    """
    if head[4:8] == b"ftyp" and head[8:12] in _HEIF_BRANDS:
        return "image"
    if head.startswith(_MEDIA_STARTS) or head[4:8] in _MP4_BOXES:
        return "media"
    if head[:4] == b"RIFF":
        return "image" if head[8:12] == b"WEBP" else "media"
    if head.startswith(_IMAGE_STARTS):
        return "media" if head.startswith(b"\x89PNG") and b"acTL" in head[:64] else "image"
    if len(head) > _PACKET_BYTES and head[0] == head[_PACKET_BYTES] == 0x47:
        return "media"
    return "media" if _is_audio_frame(head) or _is_video_unit(head) else "other"


def _is_audio_frame(head: bytes) -> bool:
    """MPEG audio of layer 2 or 3, or AAC in ADTS. A text in UTF-16 would look like layer 1."""
    if len(head) < 3 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return False
    layer = head[1] >> 1 & 3
    if layer == 0:
        return head[1] & 0xF6 == 0xF0
    return layer in (1, 2) and head[1] >> 3 & 3 != 1 and head[2] >> 4 != 0xF and head[2] >> 2 & 3 != 3


def _is_video_unit(head: bytes) -> bool:
    """A first unit of H.264, H.265 or H.266: parameters, delimiter, information. Or a picture of H.263."""
    if head[:2] == b"\0\0" and len(head) > 3 and head[2] & 0xFC == 0x80:
        return True
    start = 4 if head.startswith(b"\0\0\0\1") else 3 if head.startswith(b"\0\0\1") else 0
    if not start or len(head) < start + 2:
        return False
    first, second = head[start : start + 2]
    of_h264 = first < 0x80 and first & 0x1F in (5, 6, 7, 8, 9)
    of_h265 = first in (0x40, 0x42, 0x44, 0x46, 0x4E)
    of_h266 = first == 0 and second >> 3 in (14, 15, 16, 20)
    return of_h264 or of_h265 or of_h266


def clip_at(path: Path, below: Path) -> ClipFile:
    """The file at a path, which is taken as it is: not as a pattern, nor as the folder that it may be.

    Args:
        path: Of the file.
        below: Relative to the folder that was given; else the name of the file.
    """
    name = in_utf8(path)
    try:
        facts = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return ClipFile(name, path, below, problem="there is no such file")
    except OSError as error:
        problem = f"it can't be looked at: {error.strerror}"
        return ClipFile(name, path, below, problem=problem, code=ClipUnavailableError.code)
    if not stat.S_ISREG(facts.st_mode):
        problem = "this is no regular file; copy it into one, or give it to ahse classify on standard input"
        return ClipFile(name, path, below, problem=problem)
    return ClipFile(name, path, below, *state_of(facts))


def in_utf8(name: str | Path) -> str:
    """A name with escapes for the bytes that are not UTF-8, which no text can hold."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def state_of(facts: os.stat_result) -> tuple[int, str]:
    """Size of a file, and the time of its last change as ISO 8601 has it."""
    return facts.st_size, datetime.fromtimestamp(facts.st_mtime, UTC).isoformat()


def _spool() -> ClipFile:
    """Keep what comes on standard input in a file without a name, which can't be left behind."""
    if sys.stdin is None or sys.stdin.isatty():  # None: closed by whoever started the program
        raise InvalidOptionError("- reads a clip from standard input; send one: ahse classify - < clip.mp4")
    file = tempfile.TemporaryFile()  # noqa: SIM115  (lives as long as the clip)
    shutil.copyfileobj(sys.stdin.buffer, file)
    file.flush()
    return ClipFile(STDIN, Path(f"/dev/fd/{file.fileno()}"), Path("stdin"), spooled=file)
