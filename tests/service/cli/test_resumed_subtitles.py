"""Subtitles of runs that are resumed: none is replaced that was not said, and none is missing in the end."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.conftest import Ahse


@pytest.fixture
def asked(
    clips: dict[str, Path], toy_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[str, ...]:
    """A command over two clips in the folder of the test, of which one is done, with segments."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(clips["red low"], "a.mp4")
    shutil.copy(clips["blue high"], "b.mp4")
    return ("a.mp4", "b.mp4", "--label", "red", "--label", "blue", "--bundle", str(toy_bundle), "--timeline")


@pytest.mark.parametrize("ending", ["jsonl", "csv"])
def test_files_of_others_are_not_replaced(ahse: Ahse, asked: tuple[str, ...], ending: str) -> None:
    """Those beside clips that have no answer yet: the run does not begin until that is said."""
    output = ("-o", f"r.{ending}")
    assert ahse("classify", asked[0], *asked[2:], *output)[0] == 0
    Path("b.srt").write_text("written by hand")
    code, _, complaint = ahse("classify", *asked, *output, "--resume", "--srt")
    assert (code, "files are there already: b.srt; replace them (--overwrite)" in complaint) == (2, True)
    assert Path("b.srt").read_text() == "written by hand"
    assert not Path("a.srt").exists()
    assert ahse("classify", *asked, *output, "--resume", "--srt", "--overwrite")[0] == 0
    assert "-->" in Path("b.srt").read_text()
    assert "-->" in Path("a.srt").read_text()


def test_missing_ones_are_written_too(ahse: Ahse, asked: tuple[str, ...]) -> None:
    """Of a clip that has its answer: it is ranked again, and has one record."""
    assert ahse("classify", *asked, "-o", "r.jsonl", "--srt")[0] == 0
    before = [json.loads(line) for line in Path("r.jsonl").read_text().splitlines()]
    Path("a.srt").write_text("corrected by hand")
    Path("b.srt").unlink()
    code, _, complaint = ahse("classify", *asked, "-o", "r.jsonl", "--srt", "--resume")
    assert (code, complaint) == (0, "1 of 2 clips have their answer already\n")
    assert "-->" in Path("b.srt").read_text()
    assert ahse("classify", *asked, "-o", "r.jsonl", "--srt", "--vtt", "--resume")[0] == 0
    assert [Path(f"{name}.vtt").read_text()[:6] for name in "ab"] == ["WEBVTT"] * 2
    assert Path("a.srt").read_text() == "corrected by hand"
    after = [json.loads(line) for line in Path("r.jsonl").read_text().splitlines()]
    assert [record["file"] for record in after] == [record["file"] for record in before]


def test_a_table_whose_last_clip_is_ranked_again_is_resumed(ahse: Ahse, asked: tuple[str, ...]) -> None:
    """Its subtitles are there from the run before, and stay."""
    assert ahse("classify", *asked, "-o", "r.csv", "--vtt")[0] == 0
    Path("b.vtt").write_text("as it was")
    assert ahse("classify", *asked, "-o", "r.csv", "--vtt", "--resume")[0] == 0
    assert Path("b.vtt").read_text() == "as it was"
