"""Clips of `ahse bulk` that are objects of a store: listed by URL, copied, and read again by workers."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import service
from service.cli.bulk.plan import Plan
from service.cli.bulk.shard_worker import Order, ShardWorker
from service.cli.bulk.sources import find, local
from service.errors import ClipUnavailableError
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
    (clip,), _ = find([f"{memory}/0.mp4"])
    with local(clip) as copy:
        assert copy.read_bytes() == fsspec.filesystem("memory").cat_file("/bucket/some/0.mp4")
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("lacks", ["package", "folder"])
def test_what_a_machine_lacks_is_no_property_of_a_clip(
    lacks: str, memory: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A package that is gone since the start, or a place for the copy."""
    (clip,), _ = find([f"{memory}/0.mp4"])
    if lacks == "package":
        monkeypatch.setattr("fsspec.core.url_to_fs", _refuse)
    else:
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    with pytest.raises(ClipUnavailableError), local(clip):
        pass
