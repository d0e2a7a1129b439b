"""Subtitles of runs that are resumed: none is replaced that was not said, and none is missing in the end."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

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
    before = Path(f"r.{ending}").read_bytes()
    Path("b.srt").write_text("written by hand")
    code, _, complaint = ahse("classify", *asked, *output, "--resume", "--srt")
    assert (code, "files are there already: b.srt; replace them (--overwrite)" in complaint) == (2, True)
    assert Path("b.srt").read_text() == "written by hand"
    assert not Path("a.srt").exists()
    assert Path(f"r.{ending}").read_bytes() == before
    assert ahse("classify", *asked, *output, "--resume", "--srt", "--overwrite")[0] == 0
    assert "-->" in Path("b.srt").read_text()
    assert "-->" in Path("a.srt").read_text()


def test_missing_ones_are_written_too(ahse: Ahse, asked: tuple[str, ...]) -> None:
    """Of a clip that has its answer, from which they are written: it is not ranked again."""
    assert ahse("classify", *asked, "-o", "r.jsonl", "--srt")[0] == 0
    before, subtitle = Path("r.jsonl").read_bytes(), Path("b.srt").read_text()
    assert "-->" in subtitle
    Path("a.srt").write_text("corrected by hand")
    Path("b.srt").unlink()
    code, _, complaint = ahse("classify", *asked, "-o", "r.jsonl", "--srt", "--resume")
    assert (code, complaint) == (0, "2 of 2 clips have their answer already\n")
    assert Path("b.srt").read_text() == subtitle
    assert ahse("classify", *asked, "-o", "r.jsonl", "--srt", "--vtt", "--resume")[0] == 0
    assert [Path(f"{name}.vtt").read_text()[:6] for name in "ab"] == ["WEBVTT"] * 2
    assert Path("a.srt").read_text() == "corrected by hand"
    assert Path("r.jsonl").read_bytes() == before


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_missing_ones_are_not_written_from_a_table(ahse: Ahse, asked: tuple[str, ...], ending: str) -> None:
    """That is said before anything is changed; with all of them there it is resumed."""
    if ending == "parquet":
        pytest.importorskip("pyarrow", reason="Parquet files need pyarrow (the extra parquet)")
    output = ("-o", f"r.{ending}")
    assert ahse("classify", *asked, *output, "--srt")[0] == 0
    assert ahse("classify", *asked, *output, "--srt", "--resume")[0] == 0
    before = Path(f"r.{ending}").read_bytes()
    Path("a.srt").unlink()
    code, _, complaint = ahse("classify", *asked, *output, "--srt", "--resume")
    assert code == 2
    assert "missing, such as of a.mp4, and can't be written from the table r." in complaint
    assert Path(f"r.{ending}").read_bytes() == before
    assert ahse("classify", *asked, *output, "--resume")[0] == 0


def test_an_image_lacks_none(ahse: Ahse, asked: tuple[str, ...]) -> None:
    """It has no timeline, and is not ranked at each run for want of one."""
    Image.new("RGB", (32, 32), "red").save("still.png")
    words = ("classify", "still.png", *asked, "-o", "r.jsonl", "--srt", "--resume")
    assert ahse(*words)[0] == 0
    assert not Path("still.srt").exists()
    assert ahse(*words) == (0, "", "3 of 3 clips have their answer already\n")


def test_standard_input_is_ranked_again_beside_its_own(
    ahse: Ahse, asked: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same command goes on; only in its first run is a file of that name in the way."""
    words = ("classify", "-", *asked, "-o", "r.jsonl", "--srt", "--resume")
    content = Path("a.mp4").read_bytes()

    def again() -> tuple[int, str, str]:
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content)))
        return ahse(*words)

    Path("stdin.srt").write_text("of others")
    assert again()[0] == 2
    Path("stdin.srt").unlink()
    assert again()[0] == 0
    assert "-->" in Path("stdin.srt").read_text()
    Path("stdin.srt").write_text("of what came before")
    assert again() == (0, "", "2 of 3 clips have their answer already\n")
    assert "-->" in Path("stdin.srt").read_text()
    files = [json.loads(line)["file"] for line in Path("r.jsonl").read_text().splitlines()]
    assert sorted(files) == ["-", "a.mp4", "b.mp4"]


def test_a_table_whose_last_clip_is_ranked_again_is_resumed(ahse: Ahse, asked: tuple[str, ...]) -> None:
    """Its subtitles are there from the run before, and stay."""
    assert ahse("classify", *asked, "-o", "r.csv", "--vtt")[0] == 0
    Path("b.vtt").write_text("as it was")
    assert ahse("classify", *asked, "-o", "r.csv", "--vtt", "--resume")[0] == 0
    assert Path("b.vtt").read_text() == "as it was"
