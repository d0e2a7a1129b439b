"""Clips of `ahse bulk` that are objects of a store: listed by URL, copied, and read again by workers."""

from __future__ import annotations

import io
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import service
from service.cli.bulk.plan import Plan
from service.cli.bulk.shard_worker import Order, ShardWorker
from service.cli.bulk.sources import ClipChangedError, ClipGoneError, find, local
from service.cli.clip_files import ClipFile
from service.errors import ClipUnavailableError, InvalidOptionError
from tests.conftest import Ahse
from tests.service.cli.test_bulk import rows_in

fsspec = pytest.importorskip("fsspec", reason="URLs of objects need fsspec (the extra bulk)")
WORDS = ["--label", "red low", "--label", "green", "--label", "blue high", "--top-k", "1"]


@pytest.fixture
def memory(clips: dict[str, Path]) -> Iterator[str]:
    """Three clips in fsspec's file system in memory, which stands for s3:// and gs://."""
    system = fsspec.filesystem("memory")
    for index, name in enumerate(("red low", "green", "blue high")):
        system.pipe_file(f"/bucket/some/{index}.mp4", clips[name].read_bytes())
    yield "memory://bucket/some"
    system.store.clear()
    system.pseudo_dirs[:] = [""]


@pytest.fixture
def planned(memory: str, toy_bundle: Path, tmp_path: Path, ahse: Ahse) -> Path:
    """A plan of them in one shard."""
    words = (memory, f"{memory}/*.mp4", *WORDS, "--bundle", str(toy_bundle), "--out", str(tmp_path / "plan"))
    code, said, complaint = ahse("bulk", "plan", *words)
    assert code == 0, complaint
    assert "3 clips in 1 shards" in said
    return tmp_path / "plan"


def _refuse(*_: object, **__: object) -> Any:
    raise ImportError("Install s3fs to access S3")


def test_objects_by_url(planned: Path, toy_bundle: Path, ahse: Ahse) -> None:
    """A folder and a pattern; one that is replaced later is told."""
    fsspec.filesystem("memory").pipe_file("/bucket/some/1.mp4", b"other")
    assert ahse("bulk", "run", str(planned), "--bundle", str(toy_bundle))[0] == 1
    found = {row["file"]: row["label"] or row["error"] for row in rows_in(planned)}
    assert found == {
        "memory:///bucket/some/0.mp4": "red low",
        "memory:///bucket/some/1.mp4": "clip_changed",
        "memory:///bucket/some/2.mp4": "blue high",
    }


def test_a_folder_by_url_has_the_clips_that_a_folder_here_would_have(memory: str) -> None:
    """By their names, since the content is far away; what is named or matched is taken whatever it is."""
    system = fsspec.filesystem("memory")
    for name in ("b.json", "thumb.jpg", ".hidden.mp4", ".cache/c.mp4", "sub/d.MKV", "sub/key"):
        system.pipe_file(f"/bucket/some/{name}", b"content")
    found = find([memory])
    assert [clip.below.name for clip in found.clips] == ["0.mp4", "1.mp4", "2.mp4", "d.MKV", "key"]
    assert dict(found.skipped) == {"not media": 1, "images": 1, "hidden": 2}
    named = find([f"{memory}/*.j*", f"{memory}/.hidden.mp4"])
    assert [clip.below.name for clip in named.clips] == ["b.json", "thumb.jpg", ".hidden.mp4"]
    assert named.skipped_text() == ""


def test_a_pattern_of_urls_that_matches_nothing_is_refused(memory: str) -> None:
    """As one of paths is."""
    with pytest.raises(InvalidOptionError, match=r"no file matches the pattern memory://bucket/some/\*\.mkv"):
        find([memory, f"{memory}/*.mkv"])


def test_rows_by_url_are_clips_as_they_are_called(memory: str, tmp_path: Path) -> None:
    """One that is gone is a row, as a path would be; so is a folder, and a name that looks like a pattern."""
    system = fsspec.filesystem("memory")
    system.pipe_file("/bucket/some/[a]*?.mp4", b"content")
    rows = [f"{memory}/{name}" for name in ("0.mp4", "gone.mp4", "*.mp4", "[a]*?.mp4")]
    (tmp_path / "list.csv").write_text("\n".join(("clip", *rows, memory)))
    found = find([str(tmp_path / "list.csv")])
    assert [(clip.name.partition("some")[2], clip.problem, clip.code) for clip in found.clips] == [
        ("/0.mp4", "", "missing_file"),
        ("/gone.mp4", "there is no such file", "missing_file"),
        ("/*.mp4", "there is no such file", "missing_file"),
        ("/[a]*?.mp4", "", "missing_file"),
        ("", "there is no such file", "missing_file"),
    ]


class _AnswerError(Exception):
    """What an HTTP server has answered."""

    def __init__(self, status: int) -> None:
        super().__init__()
        self.status = status


class _Web:
    """A web server of two clips: its listing of them has no sizes, and each of them has one."""

    def __init__(self) -> None:
        self.content = {"http://host/a.mp4": b"clip", "http://host/b.mp4?sig=a*b": b"other"}

    def isdir(self, path: str) -> bool:
        return path not in self.content

    def find(self, path: str, *, detail: bool) -> dict[str, Any]:
        assert detail
        return {name: {"type": "file", "size": None} for name in self.content if name.startswith(path)}

    def info(self, path: str) -> dict[str, Any]:
        return {"type": "file", "size": len(self.content[path]), "ETag": "1"}

    def open(self, path: str, _: str) -> io.BytesIO:
        return io.BytesIO(self.content[path])

    def unstrip_protocol(self, name: str) -> str:
        return name

    _strip_protocol = unstrip_protocol


def test_a_size_that_no_listing_told_is_not_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was noted when the plan was made is."""
    web = _Web()
    monkeypatch.setattr("fsspec.core.url_to_fs", lambda url: (web, url))
    for clip in find(["http://host/"]).clips:
        with local(clip) as copy:
            assert copy.read_bytes() in web.content.values()
    (noted,) = find(["http://host/a.mp4"]).clips
    web.content["http://host/a.mp4"] = b"another"
    with pytest.raises(ClipChangedError), local(noted):
        pass


def test_a_star_in_the_query_of_a_web_address_makes_no_pattern(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be part of a signature."""
    monkeypatch.setattr("fsspec.core.url_to_fs", lambda url: (_Web(), url))
    url = "http://host/b.mp4?sig=a*b"
    assert [clip.name for clip in find([url]).clips] == [url]


def test_a_volume_that_is_not_mounted_has_lost_no_clip(tmp_path: Path) -> None:
    """Its mount point is empty. Where other files are in its folder, the clip is gone."""
    mount = tmp_path / "mount"
    for folder in (mount, mount / "sub"):
        folder.mkdir()
        (folder / "a.mp4").write_bytes(b"clip")
    (clip, below), (by_url,) = (find([word]).clips for word in (str(mount), (mount / "a.mp4").as_uri()))
    shutil.rmtree(mount)
    mount.mkdir()
    for one in (clip, below, by_url):
        with pytest.raises(ClipUnavailableError, match="is its volume mounted"), local(one):
            pass
    (mount / "other").touch()
    for one in (clip, by_url):
        with pytest.raises(ClipGoneError), local(one):
            pass


def test_a_name_below_a_url_that_is_not_utf8_is_a_problem_of_its_clip(tmp_path: Path) -> None:
    """As it is below a path; a plan is written in UTF-8."""
    (tmp_path / os.fsdecode(b"caf\xe9.mp4")).write_bytes(b"clip")
    (clip,) = find([tmp_path.as_uri()]).clips
    assert (clip.name, clip.problem) == (
        f"{tmp_path.as_uri()}/caf\\xe9.mp4",
        "its name is not UTF-8; rename it",
    )


def test_whatever_a_package_makes_of_a_url_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """That of ftp:// has no host then, and raises what its arguments lack."""

    def without_host(_: str) -> None:
        raise TypeError("missing 1 required positional argument: 'host'")

    monkeypatch.setattr("fsspec.core.url_to_fs", without_host)
    with pytest.raises(InvalidOptionError, match="ftp:// can't be opened; correct it, or install"):
        find(["ftp://"])


def test_a_name_in_a_list_may_begin_with_a_space(tmp_path: Path) -> None:
    """A row of spaces is none."""
    (tmp_path / " q.mp4").write_bytes(b"clip")
    (tmp_path / "l.csv").write_text("clip\n q.mp4\n  \n")
    (clip,) = find([str(tmp_path / "l.csv")]).clips
    assert (clip.name, clip.problem) == (f"{tmp_path}/ q.mp4", "")


@pytest.mark.parametrize(
    ("cause", "is_gone"),
    [(_AnswerError(404), True), (None, True), (_AnswerError(503), False), (ConnectionResetError(), False)],
    ids=repr,
)
def test_a_web_server_that_does_not_answer_has_lost_no_clip(
    cause: Exception | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_gone: bool
) -> None:
    """Over HTTP fsspec calls everything a missing file: when it is planned, and when a worker reads it."""

    class Web:
        def info(self, _: str) -> Any:
            raise FileNotFoundError from cause

        def unstrip_protocol(self, name: str) -> str:
            return name

        _strip_protocol = unstrip_protocol

    monkeypatch.setattr("fsspec.core.url_to_fs", lambda url: (Web(), url))
    (tmp_path / "list.csv").write_text("clip\nhttp://host/a.mp4\n")
    if is_gone:
        (clip,) = find([str(tmp_path / "list.csv")]).clips
        assert clip.problem == "there is no such file"
    else:
        with pytest.raises(InvalidOptionError, match="can't be looked at"):
            find([str(tmp_path / "list.csv")])
    clip = ClipFile("http://host/a.mp4", Path(), Path("a.mp4"))
    with pytest.raises(ClipGoneError if is_gone else ClipUnavailableError), local(clip):
        pass


def test_a_url_leads_workers_to_the_same_file(
    clips: dict[str, Path], toy_bundle: Path, ahse: Ahse, tmp_path: Path
) -> None:
    """Also one of this machine; one that leads nowhere is told when it is planned."""
    words = (*WORDS, "--bundle", str(toy_bundle), "--out", str(tmp_path / "plan"))
    url = clips["green"].as_uri()
    assert ahse("bulk", "plan", url, *words)[0] == 0
    assert ahse("bulk", "run", str(tmp_path / "plan"), "--bundle", str(toy_bundle))[0] == 0
    assert {row["file"] for row in rows_in(tmp_path / "plan")} == {url}
    code, _, complaint = ahse("bulk", "plan", f"simplecache::{url}", *words[:-1], str(tmp_path / "other"))
    assert (code, "workers could not find" in complaint) == (2, True)


def test_a_store_that_does_not_answer_is_no_result(
    planned: Path, toy_bundle: Path, ahse: Ahse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The shard is left for another try, which has the clips."""

    def reset(*_: object, **__: object) -> None:
        raise ConnectionResetError

    with monkeypatch.context() as away:
        away.setattr(type(fsspec.filesystem("memory")), "open", reset)
        code, _, complaint = ahse("bulk", "run", str(planned), "--bundle", str(toy_bundle))
    assert (code, "shard 0 could not be finished" in complaint) == (1, True)
    assert list((planned / "results").iterdir()) == []
    assert ahse("bulk", "run", str(planned), "--bundle", str(toy_bundle))[0] == 0
    assert [row["error"] for row in rows_in(planned) if row["error"]] == []


def test_a_worker_without_the_package_of_a_scheme_does_not_begin(
    planned: Path, toy_bundle: Path, ahse: Ahse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor a node of a cluster: it says so in words, before any clip."""
    monkeypatch.setattr(fsspec, "get_filesystem_class", _refuse)
    code, _, complaint = ahse("bulk", "run", str(planned), "--bundle", str(toy_bundle))
    assert code == 2
    assert "clips of memory:// can't be opened here; install the package for this scheme" in complaint
    order = Order(planned, Plan.read(planned).manifest_digest, toy_bundle, {}, service.__version__)
    assert "clips of memory:// can't be opened here" in ShardWorker(order, 1).open()
    assert list((planned / "results").iterdir()) == []


def test_a_copy_has_no_name(memory: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So it is gone with the process, whatever ends it."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (clip,) = find([f"{memory}/0.mp4"]).clips
    with local(clip) as copy:
        assert copy.read_bytes() == fsspec.filesystem("memory").cat_file("/bucket/some/0.mp4")
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("lacks", ["package", "folder"])
def test_what_a_machine_lacks_is_no_property_of_a_clip(
    lacks: str, memory: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A package that is gone since the start, or a place for the copy."""
    (clip,) = find([f"{memory}/0.mp4"]).clips
    if lacks == "package":
        monkeypatch.setattr("fsspec.core.url_to_fs", _refuse)
    else:
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    with pytest.raises(ClipUnavailableError), local(clip):
        pass
