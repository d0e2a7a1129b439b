"""What is found for the words of a command line."""

from __future__ import annotations

import errno
import io
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from service.cli.clip_files import find_clips, kind_by_name, kind_of
from service.errors import InvalidOptionError
from tests.conftest import Ahse
from tests.service.decode.clips import Recipe, make

MP4 = b"\0\0\0\x18ftypisom" + bytes(100)
# Container or raw stream, encoder of the picture, encoder of the sound.
MEDIA = [
    ("c.mp4", "libx264", "aac"),
    ("c.mov", "libx264", None),
    ("c.mkv", "libx264", "aac"),
    ("c.webm", "libvpx-vp9", None),
    ("c.avi", "mpeg4", None),
    ("c.ts", "libx264", "aac"),
    ("c.mpg", "mpeg2video", None),
    ("c.flv", "flv", None),
    ("c.wmv", "wmv2", None),
    ("c.mxf", "mpeg2video", None),
    ("c.ivf", "libvpx", None),
    ("c.y4m", "rawvideo", None),
    ("c.gif", "gif", None),
    ("c.apng", "apng", None),
    ("c.h264", "libx264", None),
    ("c.hevc", "libx265", None),
    ("c.m2v", "mpeg2video", None),
    ("c.wav", None, "pcm_s16le"),
    ("c.w64", None, "pcm_s16le"),
    ("c.mp3", None, "libmp3lame"),
    ("c.mp2", None, "mp2"),
    ("c.flac", None, "flac"),
    ("c.ogg", None, "libopus"),
    ("c.aac", None, "aac"),
    ("c.m4a", None, "aac"),
    ("c.aiff", None, "pcm_s16be"),
    ("c.caf", None, "pcm_s16be"),
    ("c.au", None, "pcm_s16be"),
    ("c.ac3", None, "ac3"),
    ("c.wv", None, "wavpack"),
]
PIXELS = {"gif": "rgb8", "apng": "rgb24"}


@pytest.mark.parametrize(("name", "picture", "sound"), MEDIA)
def test_media_are_known_by_their_content(
    name: str, picture: str | None, sound: str | None, tmp_path: Path
) -> None:
    """Whatever the file is called."""
    extra = {"video_options": {"x265-params": "log-level=none"}} if picture == "libx265" else {}
    recipe = Recipe(
        name=name,
        codec=picture,
        pix_fmt=PIXELS.get(picture or "", "yuv420p"),
        audio=sound,
        rate_hz=48_000,
        fps=25,
        ticks=range(10),
        **extra,  # type: ignore[arg-type]
    )
    assert kind_of(make(recipe, tmp_path).read_bytes()[:1024]) == "media"


@pytest.mark.parametrize("form", ["PNG", "JPEG", "BMP", "TIFF", "ICO", "WEBP", "AVIF"])
def test_still_images_are_known_as_such(form: str) -> None:
    """In a folder of clips they are covers and thumbnails."""
    file = io.BytesIO()
    Image.new("RGB", (64, 64)).save(file, form)
    assert kind_of(file.getvalue()[:1024]) == "image"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"plain text",
        "text".encode("utf-16"),
        b"%PDF-1.7",
        b"PK\x03\x04",
        b"\x7fELF",
        b"#EXTM3U\n",
        b"<html>",
        bytes(1024),
        b"SQLite format 3\0",
        b"\x1f\x8b\x08\0",
    ],
)
def test_other_files_are_no_media(content: bytes) -> None:
    """Texts, archives, programs, playlists, emptiness."""
    assert kind_of(content) == "other"


@pytest.mark.parametrize(
    ("names", "kind"),
    [
        ([*(name for name, *_ in MEDIA), "damaged.MP4", "x.3gp"], "media"),
        (["cover.jpg", "a.mp4.PNG"], "image"),
        (
            [
                *("a.qt", "a.264", "a.265", "a.h265", "a.m2t", "a.trp", "a.dv", "a.mpe", "a.m1v", "a.obu"),
                *("a.weba", "a.aifc", "a.eac3", "a.spx"),
            ],
            "media",
        ),
        (["b.json", "mp4", ".mp4", ""], "other"),
    ],
)
def test_names_tell_the_kind_where_the_content_can_not(names: list[str], kind: str) -> None:
    """Of objects in a store: every container above by its usual ending."""
    assert {name: kind_by_name(name) for name in names} == dict.fromkeys(names, kind)


def _tree(top: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_bytes(content)


def test_a_folder_is_searched_to_its_bottom(tmp_path: Path) -> None:
    """In order; media whatever they are called, and damaged ones that are called so; the rest is counted."""
    _tree(
        tmp_path,
        {
            "b.mp4": MP4,
            "a": MP4,
            "sub/deeper/c.txt": MP4,
            "sub/damaged.mp4": b"nothing",
            "sub/empty.MKV": b"",
            "notes.txt": b"text",
            "cover.jpg": b"\xff\xd8\xff",
            ".hidden.mp4": MP4,
            ".git/d.mp4": MP4,
        },
    )
    (tmp_path / "circle").symlink_to(tmp_path)
    os.mkfifo(tmp_path / "pipe.mp4")
    found = find_clips([str(tmp_path)])
    names = ["a", "b.mp4", "sub/damaged.mp4", "sub/empty.MKV", "sub/deeper/c.txt"]
    assert [clip.name for clip in found.clips] == [str(tmp_path / name) for name in names]
    assert [str(clip.below) for clip in found.clips] == names
    assert found.skipped_text() == (
        "hidden: 2, images: 1, links to folders: 1, not media: 2 "
        "(a pattern, such as 'CLIPS/*', takes all that it matches)"
    )
    assert all(clip.size_bytes is not None and clip.modified for clip in found.clips)


def test_what_is_named_is_taken_whatever_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files, patterns, hidden ones too; each once, with a problem where there is no file."""
    monkeypatch.chdir(tmp_path)
    _tree(tmp_path, {"a.txt": b"text", ".b": b"", "x/c.mp4": MP4, "x/y/d.mp4": MP4, "[e].mp4": MP4})
    os.mkfifo("pipe")
    words = ["a.txt", ".b", "x/**/*.mp4", "./a.txt", "x", "[e].mp4", "gone.mp4", "*.avi", "pipe"]
    found = find_clips(words)
    assert [(clip.name, clip.problem.partition(";")[0]) for clip in found.clips] == [
        ("a.txt", ""),
        (".b", ""),
        ("x/c.mp4", ""),
        ("x/y/d.mp4", ""),
        ("[e].mp4", ""),
        ("gone.mp4", "there is no such file"),
        ("*.avi", "no file matches this pattern"),
        ("pipe", "this is no regular file"),
    ]
    assert {clip.code for clip in found.clips if clip.problem} == {"missing_file"}
    assert found.skipped_text() == ""


def test_an_empty_name_is_not_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable of a shell that is not set: nobody means all that is there."""
    monkeypatch.chdir(tmp_path)
    _tree(tmp_path, {"a.mp4": MP4})
    with pytest.raises(InvalidOptionError, match="the name of a clip is empty"):
        find_clips(["a.mp4", ""])


def test_a_name_that_is_no_text_can_be_written_down(tmp_path: Path) -> None:
    """In UTF-8, as records need it; the file is opened by its bytes."""
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.mp4"))
    path.write_bytes(MP4)
    (clip,) = find_clips([str(tmp_path)]).clips
    assert clip.name == f"{tmp_path}/caf\\xe9.mp4"
    assert clip.path.read_bytes() == MP4


def test_standard_input_is_kept_in_a_file_without_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that nothing can be left behind."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"clip")))
    (clip,) = find_clips(["-"]).clips
    assert (clip.name, clip.path.read_bytes(), clip.path.is_file()) == ("-", b"clip", True)
    assert (clip.size_bytes, clip.modified) == (None, None)
    assert clip.spooled is not None
    clip.spooled.close()


def test_a_terminal_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody types a clip."""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stdin", Terminal())
    with pytest.raises(InvalidOptionError, match=r"ahse classify - < clip\.mp4"):
        find_clips(["-"])


def test_a_closed_standard_input_is_told(ahse: Ahse, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python has none then, as after `<&-`: neither for a clip nor for names."""
    monkeypatch.setattr(sys, "stdin", None)
    for words, said in (
        (("-", "--label", "a", "--label", "b"), "- reads a clip from standard input; send one"),
        (("a.mp4", "--labels-file", "-"), "--labels-file - reads standard input, which is closed"),
    ):
        code, _, complaint = ahse("classify", *words)
        assert (code, said in complaint) == (2, True)


def test_a_folder_that_may_be_listed_but_not_entered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is in it is told for each clip, and what is elsewhere is found."""
    _tree(tmp_path, {"locked/sub/a": MP4, "locked/b.mp4": MP4, "c.mp4": MP4})
    stat = Path.stat

    def forbidden(self: Path, **options: Any) -> os.stat_result:
        if self.parent.name == "locked":
            raise PermissionError(errno.EACCES, "Permission denied")
        return stat(self, **options)

    monkeypatch.setattr(Path, "stat", forbidden)
    found = find_clips([str(tmp_path)]).clips
    assert [(clip.path.name, clip.problem) for clip in found] == [
        ("c.mp4", ""),
        ("b.mp4", "it can't be looked at: Permission denied"),
        ("a", ""),
    ]


def test_a_name_that_can_not_be_looked_at_is_a_problem_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Too long, or in a folder that may not be entered: the others are found all the same."""
    stat = Path.stat

    def forbidden(self: Path, **options: Any) -> os.stat_result:
        if self.name == "forbidden.mp4":
            raise PermissionError(errno.EACCES, "Permission denied")
        return stat(self, **options)

    monkeypatch.setattr(Path, "stat", forbidden)
    (tmp_path / "good.mp4").write_bytes(MP4)
    words = [str(tmp_path / name) for name in (f"{'x' * 300}.mp4", "forbidden.mp4", "good.mp4")]
    found = find_clips(words).clips
    assert [clip.problem for clip in found] == [
        "it can't be looked at: File name too long",
        "it can't be looked at: Permission denied",
        "",
    ]
    assert [clip.code for clip in found[:2]] == ["clip_unavailable"] * 2
