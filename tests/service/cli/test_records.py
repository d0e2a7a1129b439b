"""Files of records: whole at any moment, and resumed with what is still true."""

from __future__ import annotations

import csv
import json
import os
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from service.api.schemas import (
    Agreement,
    ClassifyResponse,
    Guarantee,
    Prediction,
    Receipt,
    SegmentAnswer,
    SegmentReceipt,
    Tracks,
    TrackScore,
    TrackUse,
)
from service.cli.clip_files import ClipFile
from service.cli.record_files import RecordFile, open_records
from service.cli.records import COLUMNS, Failure, make_record
from service.client import Answer
from service.errors import InvalidOptionError

ENDINGS = ["jsonl", "csv", "parquet"]
EACH = pytest.mark.parametrize("ending", ENDINGS)
_USED = TrackUse(used=True, reason=None, detail="h264")


def _predictions(*labels: str) -> list[Prediction]:
    score = TrackScore(similarity=0.5, score=0.25)
    return [
        Prediction(
            rank=rank, label=label, score=1 / rank, distance=rank, seen=False, visual=score, audio=None
        )
        for rank, label in enumerate(labels, start=1)
    ]


def _answer(*labels: str) -> Answer:
    """An answer with two segments, the second with nothing to rank by."""
    agreement = Agreement(score=0.75, visual=labels[0], audio=labels[0], surer="visual")
    tracks, alone = (Tracks(visual=_USED, audio=_USED, agreement=one) for one in (agreement, None))
    response = ClassifyResponse(
        id="secret",
        bundle="toy",
        bundle_version="1",
        bundle_notice=None,
        label_set=None,
        n_labels=len(labels),
        predictions=_predictions(*labels),
        tracks=tracks,
        unknown=0.5,
        guarantee=Guarantee(level=0.9, labels=[labels[0]], holds_for="these"),
        receipt=Receipt(clip_sha256="ab", frame_times_s=[0.5], audio_windows_s=[(0.0, 2.0)]),
        duration_s=4.0,
        calibration=0.0,
        segments=[
            SegmentAnswer(
                start_s=0,
                end_s=2,
                predictions=_predictions(labels[0]),
                tracks=tracks,
                unknown=None,
                receipt=SegmentReceipt(frame_times_s=[0.5], audio_windows_s=[(0.0, 2.0)]),
            ),
            SegmentAnswer(
                start_s=2,
                end_s=4,
                predictions=[],
                tracks=alone,
                unknown=None,
                receipt=SegmentReceipt(frame_times_s=[], audio_windows_s=[]),
            ),
        ],
        warnings=[],
        timings_ms={},
    )
    return Answer.read(response.model_dump(mode="json"))


def _text(cell: object) -> str | None:
    """As a CSV has it, which has no types."""
    return None if cell in (None, "") else str(cell)


def _clip(name: str, size_bytes: int = 5) -> ClipFile:
    return ClipFile(name, Path(name), Path(name), size_bytes, "2026-01-01T00:00:00+00:00")


def _open(
    path: Path,
    question: str = "q",
    clips: Sequence[ClipFile] = (),
    *,
    resume: bool = False,
    overwrite: bool = False,
) -> RecordFile:
    if path.suffix == ".parquet":
        pytest.importorskip("pyarrow", reason="Parquet files need pyarrow (the extra parquet)")
    return open_records(path, question, clips, resume=resume, overwrite=overwrite)


def _fill(file: RecordFile, *results: tuple[ClipFile, Answer | Failure]) -> None:
    for clip, result in results:
        file.write(make_record(clip, "q", result))
    file.close()


def _rows(path: Path) -> list[Mapping[str, Any]]:
    """Rows of a table, or records."""
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text().splitlines()]
    if path.suffix == ".csv":
        with path.open(newline="") as file:
            return list(csv.DictReader(file))
    from pyarrow import parquet

    rows: list[Mapping[str, Any]] = parquet.read_table(path).to_pylist()
    return rows


def test_a_record_is_the_answer_with_its_file() -> None:
    """Without the id of the request, which says nothing of the clip."""
    record = make_record(_clip("a.mp4"), "q", _answer("dog", "cat"))
    assert list(record)[:5] == ["file", "size_bytes", "modified", "question", "bundle"]
    assert "id" not in record
    assert record["predictions"][1]["label"] == "cat"
    failed = make_record(_clip("a.mp4"), "q", Failure("not_media", "No clip."))
    assert failed["error"] == {"code": "not_media", "message": "No clip."}


def test_json_lines_hold_whole_records(tmp_path: Path) -> None:
    """A line each, there before the next clip is begun."""
    file = _open(tmp_path / "r.jsonl")
    file.write(make_record(_clip("ä.mp4"), "q", _answer("dög")))
    (record,) = _rows(tmp_path / "r.jsonl")
    file.close()
    assert (record["file"], record["predictions"][0]["label"]) == ("ä.mp4", "dög")


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_tables_have_a_row_for_each_prediction(ending: str, tmp_path: Path) -> None:
    """Of the whole clip first, then of each segment; one for a failure."""
    path = tmp_path / f"r.{ending}"
    _fill(_open(path), (_clip("a"), _answer("dog", "cat")), (_clip("b"), Failure("not_media", "No, clip.")))
    rows = _rows(path)
    assert list(rows[0]) == list(COLUMNS)
    known = [
        tuple(
            None if row[name] in ("", None) else str(row[name])
            for name in ("file", "start_s", "label", "error")
        )
        for row in rows
    ]
    assert known == [
        ("a", None, "dog", None),
        ("a", None, "cat", None),
        ("a", "0.0", "dog", None),
        ("a", "2.0", None, None),
        ("b", None, None, "not_media"),
    ]
    assert [float(rows[0][name]) for name in ("score", "visual_score", "unknown", "duration_s")] == [
        *(1.0, 0.25, 0.5, 4.0)
    ]
    assert [tuple(_text(row[name]) for name in ("agreement", "guaranteed")) for row in rows] == [
        ("0.75", "True"),
        ("0.75", "False"),
        ("0.75", None),
        (None, None),
        (None, None),
    ]


def test_no_cell_is_a_formula(tmp_path: Path) -> None:
    """A spreadsheet would run it; a file that is called so is still known when the run is resumed."""
    path, clip = tmp_path / "r.csv", _clip("=1+1.mp4")
    _fill(
        _open(path),
        (clip, _answer("@sum", "\N{FULLWIDTH EQUALS SIGN}x", "plain")),
        (_clip("z"), _answer("a")),
    )
    assert [row["label"] for row in _rows(path)][:3] == ["'@sum", "'\N{FULLWIDTH EQUALS SIGN}x", "plain"]
    assert _rows(path)[0]["file"] == "'=1+1.mp4"
    resumed = _open(path, clips=[clip], resume=True)
    assert resumed.done == {clip.name}
    resumed.close()
    assert [row["label"] for row in _rows(path)][:3] == ["'@sum", "'\N{FULLWIDTH EQUALS SIGN}x", "plain"]


@EACH
def test_resuming_keeps_answers_and_forgets_failures(ending: str, tmp_path: Path) -> None:
    """A clip that changed since, or failed, or came on standard input, is ranked again; others stay."""
    path, stdin = tmp_path / f"r.{ending}", ClipFile("-", Path("-"), Path("-"))
    answered = [(clip, _answer("dog")) for clip in (_clip("a"), _clip("b"), stdin, _clip("other"))]
    failed = [(_clip(name), Failure("x", "y")) for name in ("c", "another")]
    _fill(_open(path), *answered, *failed)
    again = [_clip("b", 6), _clip("c"), stdin, _clip("new")]
    file = _open(path, clips=[_clip("a"), *again], resume=True)
    assert file.done == {"a"}
    _fill(file, *((clip, _answer("cat")) for clip in again))
    files = list(dict.fromkeys(str(row["file"]).removeprefix("'") for row in _rows(path)))
    assert files == ["a", "other", "another", "b", "c", "-", "new"]
    assert list(tmp_path.iterdir()) == [path]


@EACH
def test_a_file_that_is_refused_when_it_was_read_stays_as_it_was(ending: str, tmp_path: Path) -> None:
    """Failures too; what was read is known then: which clips have an answer, and which one with segments."""
    path, clips = tmp_path / f"r.{ending}", [_clip("a"), _clip("b"), _clip("c")]
    still = Answer.read({**_answer("dog").document, "segments": None})
    _fill(_open(path), (clips[0], _answer("dog")), (clips[1], still), (clips[2], Failure("x", "y")))
    before = path.read_bytes()

    def refuse(old: RecordFile) -> None:
        assert (old.answered, old.segmented, old.done) == ({"a", "b"}, {"a"}, {"a", "b"})
        raise InvalidOptionError("no")

    with pytest.raises(InvalidOptionError, match="no"):
        open_records(path, "q", clips, refuse, resume=True, overwrite=False)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_stored_answers_are_those_that_were_written(tmp_path: Path) -> None:
    """Of JSON lines, which have all of them; a record that lacks some of it is told."""
    path, clips = tmp_path / "r.jsonl", [_clip("a"), _clip("b")]
    _fill(_open(path), *((clip, _answer(clip.name)) for clip in clips))
    file = _open(path, clips=clips, resume=True)
    ((name, answer),) = file.stored({"b"})
    file.close()
    assert (name, answer.id, answer.segments) == ("b", "", _answer("b").segments)
    path.write_text(path.read_text().replace("bundle_notice", "other"))
    with pytest.raises(InvalidOptionError, match="was not written by ahse classify"):
        list(file.stored({"b"}))


@EACH
def test_a_file_that_is_not_there_yet_is_begun_by_resuming_too(ending: str, tmp_path: Path) -> None:
    """So that one command can be repeated until it is through."""
    path = tmp_path / f"r.{ending}"
    _fill(_open(path, resume=True), (_clip("a"), _answer("dog")))
    assert _rows(path)[0]["file"] == "a"


@EACH
def test_answers_to_another_question_are_not_mixed_in(ending: str, tmp_path: Path) -> None:
    """Other names, options or bundles would be in one file with no way to tell; it stays as it was."""
    path = tmp_path / f"r.{ending}"
    _fill(_open(path), (_clip("a"), _answer("dog")))
    before = path.read_bytes()
    with pytest.raises(InvalidOptionError, match="other names, options or another bundle"):
        _open(path, "another", resume=True)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("r.jsonl", "text\n"),
        ("r.jsonl", "[1]\n"),
        ("r.jsonl", '{"file": "a"}\n'),
        ("r.csv", "a,b\n1,2\n"),
        ("r.csv", ""),
        ("r.csv", "\udcff\n"),
        ("r.parquet", "text"),
    ],
)
def test_a_file_of_something_else_is_not_resumed(name: str, content: str, tmp_path: Path) -> None:
    """Nor changed, and nothing is left beside it."""
    path = tmp_path / name
    path.write_text(content, errors="surrogateescape")
    with pytest.raises(InvalidOptionError, match="was not written by ahse classify"):
        _open(path, resume=True)
    assert path.read_text(errors="surrogateescape") == content
    assert list(tmp_path.iterdir()) == [path]


def test_of_a_table_the_last_clip_is_ranked_again(tmp_path: Path) -> None:
    """Its rows may have been cut between two of them; one that this run does not have stays."""
    path, clips = tmp_path / "r.csv", [_clip("a"), _clip("b")]
    _fill(_open(path), *((clip, _answer("dog", "cat")) for clip in clips))
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-2]))
    file = _open(path, clips=clips, resume=True)
    assert file.done == {"a"}
    file.close()
    assert [row["file"] for row in _rows(path)] == ["a"] * 4
    file = _open(path, clips=[_clip("c")], resume=True)
    file.close()
    assert [row["file"] for row in _rows(path)] == ["a"] * 4


@pytest.mark.parametrize("ending", ["jsonl", "csv"])
def test_a_record_that_was_cut_is_left_out(ending: str, tmp_path: Path) -> None:
    """The program was killed, or the machine lost its power, while it was written."""
    path = tmp_path / f"r.{ending}"
    clips = [_clip("a"), _clip("b"), _clip("c")]
    _fill(_open(path), *((clip, _answer("dog")) for clip in clips))
    path.write_bytes(path.read_bytes()[:-3])
    file = _open(path, clips=clips, resume=True)
    assert file.done == {"a", "b"}
    file.close()
    assert {row["file"] for row in _rows(path)} == {"a", "b"}


def test_a_record_that_was_cut_inside_a_character_is_left_out(tmp_path: Path) -> None:
    """Names are written as they are, so a full disk may leave half of a letter."""
    path, clips = tmp_path / "r.jsonl", [_clip("a"), _clip("b")]
    _fill(_open(path), *((clip, _answer("犬")) for clip in clips))
    content = path.read_bytes()
    path.write_bytes(content[: content.rindex("犬".encode()) + 1])
    file = _open(path, clips=clips, resume=True)
    assert file.done == {"a"}
    file.close()


def test_empty_lines_of_a_table_are_nothing(tmp_path: Path) -> None:
    """Some programs end one so."""
    path, clips = tmp_path / "r.csv", [_clip("a"), _clip("b")]
    _fill(_open(path), *((clip, _answer("dog")) for clip in clips))
    path.write_bytes(path.read_bytes() + b"\r\n")
    file = _open(path, clips=clips, resume=True)
    assert file.done == {"a"}
    file.close()


@EACH
def test_a_file_that_is_there_is_replaced_only_when_that_is_said(ending: str, tmp_path: Path) -> None:
    """Hours of work may be in it."""
    path = tmp_path / f"r.{ending}"
    _fill(_open(path), (_clip("a"), _answer("dog")))
    with pytest.raises(InvalidOptionError, match=r"--resume.*--overwrite"):
        _open(path)
    _fill(_open(path, overwrite=True), (_clip("b"), _answer("dog")))
    assert {row["file"] for row in _rows(path)} == {"b"}


def test_a_parquet_file_takes_the_place_of_the_old_one_when_it_is_complete(tmp_path: Path) -> None:
    """Killed before that, the old one is still there."""
    path = tmp_path / "r.parquet"
    _fill(_open(path), (_clip("a"), _answer("dog")))
    before = path.read_bytes()
    file = _open(path, resume=True)
    file.write(make_record(_clip("b"), "q", _answer("dog")))
    assert path.read_bytes() == before
    file.close()
    assert {row["file"] for row in _rows(path)} == {"a", "b"}


@EACH
def test_a_file_is_on_disk_before_it_takes_the_place_of_another(
    ending: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power cut would leave an empty one else, and the old one would be gone."""
    path, steps, replace = tmp_path / f"r.{ending}", list[str](), Path.replace
    _fill(_open(path), (_clip("a"), _answer("dog")))

    def replaced(self: Path, target: Path) -> Path:
        steps.append("replace")
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", lambda _: steps.append("fsync"))
    monkeypatch.setattr(Path, "replace", replaced)
    _open(path, resume=True).close()
    assert steps == ["fsync", "replace"]


def test_json_lines_may_be_called_ndjson(tmp_path: Path) -> None:
    """As other programs call them."""
    file = _open(tmp_path / "r.ndjson")
    _fill(file, (_clip("a"), _answer("dog")))
    assert json.loads((tmp_path / "r.ndjson").read_text())["file"] == "a"


def test_other_endings_are_refused(tmp_path: Path) -> None:
    """With those that are known."""
    with pytest.raises(InvalidOptionError, match=r"\.jsonl, \.csv or \.parquet"):
        _open(tmp_path / "r.xlsx")


def test_parquet_without_its_package_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An optional part of the installation."""
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(InvalidOptionError, match=r"pip install 'ahse\[parquet\]'"):
        open_records(tmp_path / "r.parquet", "q", (), resume=False, overwrite=False)
    assert list(tmp_path.iterdir()) == []


def test_a_pipe_gets_all_lines(tmp_path: Path) -> None:
    """It is opened once: at a close whoever reads it would take it for complete."""
    path = tmp_path / "r.jsonl"
    os.mkfifo(path)
    with ThreadPoolExecutor(1) as pool:
        read = pool.submit(path.read_text)
        _fill(_open(path, overwrite=True), (_clip("a"), _answer("dog")))
        assert json.loads(read.result(timeout=60))["file"] == "a"
