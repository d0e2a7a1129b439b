"""`ahse bulk`: a plan, its shards by any number of workers, and results that are the same in all ways."""

from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from service.cli.bulk import plan as plans
from service.cli.bulk import results
from service.cli.bulk.plan import Plan
from service.cli.clip_files import ClipFile
from service.cli.rankers import ClipFailedError, LocalRanker
from service.cli.records import Failure, make_record
from tests.conftest import Ahse
from tests.toy import write_clip, write_toy_bundle

parquet = pytest.importorskip("pyarrow.parquet", reason="plans are Parquet files (the extra bulk)")
KINDS = [("red", "low"), ("green", "high"), ("blue", "middle"), ("red", "high"), ("green", None)]
LABELS = ["red low", "green high", "blue middle"]
WORDS = [word for name in LABELS for word in ("--label", name)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five clips and a file that is none but is called as one. Don't change it."""
    made = tmp_path_factory.mktemp("bulk_clips")
    for index, (colour, tone) in enumerate(KINDS):
        write_clip(made / f"{index}.mp4", colour, tone, seconds=0.5)
    (made / "broken.mp4").write_bytes(b"\0" * 200)
    return made


@pytest.fixture
def planned(folder: Path, toy_bundle: Path, tmp_path: Path, ahse: Ahse) -> Path:
    """A plan of three shards of two clips."""
    words = ("bulk", "plan", str(folder), "--out", str(tmp_path / "plan"), "--shard-size", "2")
    code, said, complaint = ahse(*words, *WORDS, "--bundle", str(toy_bundle))
    assert code == 0, complaint
    assert "6 clips in 3 shards, 3 labels" in said
    return tmp_path / "plan"


def rows_in(plan: Path) -> list[dict[str, Any]]:
    """All results, in the order of the plan."""
    files = sorted((plan / "results").iterdir())
    return [row for file in files for row in parquet.read_table(file).to_pylist()]


def test_one_machine_does_all_of_it(planned: Path, toy_bundle: Path, ahse: Ahse) -> None:
    """Rows in the order of the plan, a clip that failed among them; and nothing is left to do."""
    code, _, complaint = ahse("bulk", "run", str(planned), "--bundle", str(toy_bundle))
    assert code == 1
    assert "1 of 6 clips failed" in complaint
    best = {Path(row["file"]).name: row["label"] for row in rows_in(planned) if row["rank"] in (1, None)}
    assert best == {
        "0.mp4": "red low",
        "1.mp4": "green high",
        "2.mp4": "blue middle",
        "3.mp4": best["3.mp4"],
        "4.mp4": "green high",
        "broken.mp4": None,
    }
    assert [row["error"] for row in rows_in(planned) if row["error"]] == ["not_media"]
    assert ahse("bulk", "status", str(planned)) == (
        0,
        "3 of 3 shards, 6 of 6 clips\n1 failed [not_media]\n",
        "",
    )
    code, said, _ = ahse("bulk", "run", str(planned), "--bundle", str(toy_bundle))
    assert (code, "has its results already" in said) == (0, True)


def test_workers_share_it_and_the_results_are_the_same(
    planned: Path, toy_bundle: Path, ahse: Ahse, tmp_path: Path
) -> None:
    """Two of two, in any order, on copies of one plan."""
    shared = tmp_path / "shared"
    shutil.copytree(planned, shared)
    ahse("bulk", "run", str(planned), "--bundle", str(toy_bundle))
    for worker in ("1/2", "0/2"):
        ahse("bulk", "run", str(shared), "--bundle", str(toy_bundle), "--shard", worker, "--jobs", "1")
        done = len(list((shared / "results").iterdir()))
        assert done == {"1/2": 1, "0/2": 3}[worker]
    assert rows_in(shared) == rows_in(planned)


def test_what_is_there_is_not_done_again(
    planned: Path, toy_bundle: Path, ahse: Ahse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that was killed goes on with the shards that are missing."""
    ahse("bulk", "run", str(planned), "--bundle", str(toy_bundle))
    before = rows_in(planned)
    (planned / "results" / "00001.parquet").unlink()
    code, said, _ = ahse("bulk", "status", str(planned))
    assert code == 1
    assert "2 of 3 shards, 4 of 6 clips" in said
    assert "missing: 1" in said
    asked = []
    rank = LocalRanker.rank

    def counted(self: LocalRanker, path: Path, progress: Any) -> Any:
        asked.append(path.name)
        return rank(self, path, progress)

    monkeypatch.setattr(LocalRanker, "rank", counted)
    assert ahse("bulk", "run", str(planned), "--bundle", str(toy_bundle))[0] == 0
    assert sorted(asked) == ["2.mp4", "3.mp4"]
    assert rows_in(planned) == before


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (ClipFailedError("decoder_unavailable", "no memory"), "[decoder_unavailable]"),
        (RuntimeError("CUDA out of memory"), "3.mp4: RuntimeError: CUDA out of memory"),
    ],
)
def test_a_shard_is_whole_or_not_there(
    fault: Exception,
    said: str,
    planned: Path,
    toy_bundle: Path,
    ahse: Ahse,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What is wrong with the machine, or unforeseen, is no result of a clip: the shard is left for later."""
    rank = LocalRanker.rank

    def unavailable(self: LocalRanker, path: Path, progress: Any) -> Any:
        if path.name == "3.mp4":
            raise fault
        return rank(self, path, progress)

    monkeypatch.setattr(LocalRanker, "rank", unavailable)
    code, _, complaint = ahse("bulk", "run", str(planned), "--bundle", str(toy_bundle))
    assert code == 1
    assert "shard 1 could not be finished" in complaint
    assert said in complaint
    assert sorted(path.name for path in (planned / "results").iterdir()) == ["00000.parquet", "00002.parquet"]


def test_a_run_that_was_interrupted_fills_no_shard_with_clips_of_another(tmp_path: Path) -> None:
    """What was done behind the clip that was waited for is written last, and belongs to shards to come."""
    (tmp_path / "results").mkdir()
    shards = results.ShardResults(tmp_path, [(0, ["a", "b"]), (1, ["c", "d"])], print)
    for name in ("a", "c", "d"):
        clip = ClipFile(name, Path(name), Path(name))
        shards.write(make_record(clip, "question", Failure("not_media", "no clip")))
    assert list((tmp_path / "results").iterdir()) == []


def test_a_shard_that_is_published_is_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its rows before its name, and its name too: a power cut leaves no empty file that counts as done."""
    (tmp_path / "results").mkdir()
    steps: list[str] = []
    for name in ("fsync", "link"):
        monkeypatch.setattr(os, name, lambda *_, name=name: steps.append(name))
    shards = results.ShardResults(tmp_path, [(0, ["a"])], print)
    shards.write(
        make_record(ClipFile("a", Path("a"), Path("a")), "question", Failure("not_media", "no clip"))
    )
    assert steps == ["fsync", "link", "fsync"]


def test_what_is_said_of_a_shard_does_not_steer_the_terminal(tmp_path: Path) -> None:
    """It goes where the progress is shown, with the name of a clip in it."""
    said: list[str] = []
    shards = results.ShardResults(tmp_path, [(0, ["\x1b[2J"])], said.append)
    clip = ClipFile("\x1b[2J", Path("a"), Path("a"))
    shards.write(make_record(clip, "question", Failure("clip_unavailable", "away")))
    (line,) = said
    assert line.startswith(
        "shard 0 could not be finished for \N{REPLACEMENT CHARACTER}[2J [clip_unavailable];"
    )


def test_shards_are_read_when_their_turn_comes(
    planned: Path, toy_bundle: Path, ahse: Ahse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A plan may have more clips than fit into memory: of six, four are begun before the first is done."""
    steps: list[object] = []
    rank, read_shard = LocalRanker.rank, plans.read_shard

    def noted_rank(self: LocalRanker, path: Path, progress: Any) -> Any:
        try:
            return rank(self, path, progress)
        finally:
            steps.append(path.name)

    def noted_read(folder: Path, shard: int) -> Any:
        steps.append(shard)
        yield from read_shard(folder, shard)

    monkeypatch.setattr(LocalRanker, "rank", noted_rank)
    monkeypatch.setattr(plans, "read_shard", noted_read)
    ahse("bulk", "run", str(planned), "--bundle", str(toy_bundle), "--jobs", "1")
    assert len(rows_in(planned)) > 0
    assert steps.index("0.mp4") < steps.index(2)


def test_a_pattern_that_matches_nothing_is_refused(
    folder: Path, toy_bundle: Path, ahse: Ahse, tmp_path: Path
) -> None:
    """It would be a clip that never was; nothing else of the plan is written either."""
    plan = tmp_path / "plan"
    words = (str(folder), str(folder / "*.mpg"), *WORDS, "--bundle", str(toy_bundle), "--out", str(plan))
    code, _, complaint = ahse("bulk", "plan", *words)
    assert (code, f"no file matches the pattern {folder}/*.mpg; correct it" in complaint) == (2, True)
    assert not plan.exists()


def test_damaged_results_are_told(planned: Path, ahse: Ahse) -> None:
    """With what to do about them."""
    (planned / "results" / "00001.parquet").touch()
    code, _, complaint = ahse("bulk", "status", str(planned))
    assert code == 2
    assert "results/00001.parquet is damaged; delete it, and run the shard again: ahse bulk run" in complaint
    assert len(complaint.splitlines()) == 1


@pytest.mark.parametrize("links", [True, False])
def test_of_two_workers_on_one_shard_the_first_counts(
    planned: Path, toy_bundle: Path, ahse: Ahse, monkeypatch: pytest.MonkeyPatch, *, links: bool
) -> None:
    """The other's rows are dropped, and no file of its own is left; without links they replace equal ones."""
    if not links:

        def refused(*_: object) -> None:
            raise PermissionError

        monkeypatch.setattr(os, "link", refused)
    monkeypatch.setattr("service.cli.bulk.results.is_done", lambda *_: False)
    ahse("bulk", "run", str(planned), "--bundle", str(toy_bundle))
    first = rows_in(planned)
    _, _, complaint = ahse("bulk", "run", str(planned), "--bundle", str(toy_bundle))
    assert ("shard 0 has results of another worker already" in complaint) == links
    assert rows_in(planned) == first
    assert len(list((planned / "results").iterdir())) == 3


def test_clips_that_changed_or_went_away_are_rows(
    folder: Path, toy_bundle: Path, ahse: Ahse, tmp_path: Path
) -> None:
    """Each with its code; nothing that was not planned is ranked."""
    clips = tmp_path / "clips"
    shutil.copytree(folder, clips)
    plan = tmp_path / "plan"
    ahse("bulk", "plan", str(clips / "0.mp4"), str(clips / "1.mp4"), str(clips / "nope.mp4"), *WORDS,
         "--bundle", str(toy_bundle), "--out", str(plan))  # fmt: skip
    (clips / "0.mp4").unlink()
    shutil.copyfile(clips / "2.mp4", clips / "1.mp4")
    assert ahse("bulk", "run", str(plan), "--bundle", str(toy_bundle))[0] == 1
    assert [row["error"] for row in rows_in(plan)] == ["clip_gone", "clip_changed", "missing_file"]


@pytest.mark.parametrize("call", ["stat", "open"])
def test_a_volume_that_does_not_answer_is_no_result(
    call: str, planned: Path, toy_bundle: Path, ahse: Ahse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of a network file system whose server was away; the clip is named."""
    whole = getattr(Path, call)

    def stale(self: Path, *arguments: Any, **options: Any) -> Any:
        if self.name == "3.mp4":
            raise OSError(errno.ESTALE, "Stale file handle")
        return whole(self, *arguments, **options)

    with monkeypatch.context() as away:
        away.setattr(Path, call, stale)
        _, _, complaint = ahse("bulk", "run", str(planned), "--bundle", str(toy_bundle))
    assert "shard 1 could not be finished for " in complaint
    assert "3.mp4 [clip_unavailable]" in complaint
    assert not (planned / "results" / "00001.parquet").exists()


def test_clips_that_can_not_be_looked_at_are_not_planned(
    folder: Path, toy_bundle: Path, ahse: Ahse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is so at one moment would be their result for good."""
    stat = Path.stat

    def stale(self: Path, **options: Any) -> os.stat_result:
        if self.name == "3.mp4":
            raise OSError(errno.ESTALE, "Stale file handle")
        return stat(self, **options)

    monkeypatch.setattr(Path, "stat", stale)
    words = [str(folder / name) for name in ("0.mp4", "3.mp4")]
    plan = tmp_path / "plan"
    code, _, complaint = ahse("bulk", "plan", *words, *WORDS, "--bundle", str(toy_bundle), "--out", str(plan))
    assert code == 2
    assert "1 of 2 clips can't be planned, such as " in complaint
    assert "3.mp4: it can't be looked at: Stale file handle; try again, or leave them out" in complaint
    assert not plan.exists()


def test_what_is_listed_is_a_file_as_it_is_called(
    folder: Path, toy_bundle: Path, ahse: Ahse, tmp_path: Path
) -> None:
    """A folder, a name that looks like a pattern, and one that is not UTF-8: rows, not a stop."""
    (tmp_path / "some").mkdir()
    for name in ("1.mp4", "2.mp4", "[12].mp4"):
        shutil.copyfile(folder / "0.mp4", tmp_path / "some" / name)
    odd = os.fsdecode(b"\xff.mp4")
    shutil.copyfile(folder / "0.mp4", tmp_path / odd)
    (tmp_path / "l.csv").write_text("clip\nsome\nsome/[12].mp4\n")
    plan = tmp_path / "plan"
    words = (
        str(tmp_path / "l.csv"),
        str(tmp_path / odd),
        *WORDS,
        "--bundle",
        str(toy_bundle),
        "--top-k",
        "1",
    )
    assert ahse("bulk", "plan", *words, "--out", str(plan))[0] == 0
    (tmp_path / "some" / "[12].mp4").unlink()
    assert ahse("bulk", "run", str(plan), "--bundle", str(toy_bundle))[0] == 1
    assert [row["error"] for row in rows_in(plan)] == ["missing_file", "clip_gone", "missing_file"]


def test_a_list_and_a_label_set_with_prompts(
    folder: Path, toy_bundle: Path, ahse: Ahse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The set as it was when the plan was made: what is done to it later changes nothing."""
    monkeypatch.setenv("AHSE_DATA_DIR", str(tmp_path / "data"))
    (tmp_path / "labels.json").write_text(json.dumps([{"name": "x", "prompts": ["red low"]}, "blue middle"]))
    lists = folder.parent / "list.csv"
    lists.write_text(f"note,clip\na,{folder.name}/0.mp4\nb,{folder.name}/2.mp4\n,\n")
    from service.cli.local_label_sets import LocalLabelSets
    from service.client import Label
    from service.settings import Settings

    sets = LocalLabelSets(Settings())
    sets.put_label_set("mine", [Label("x", ("red low",)), "blue middle"])
    plan = tmp_path / "plan"
    words = ("--label-set", "mine", "--bundle", str(toy_bundle), "--out", str(plan), "--top-k", "1")
    assert ahse("bulk", "plan", str(lists), *words)[0] == 0
    sets.delete_label_set("mine")
    sets.close()
    assert ahse("bulk", "run", str(plan), "--bundle", str(toy_bundle))[0] == 0
    assert [row["label"] for row in rows_in(plan)] == ["x", "blue middle"]
    assert Plan.read(plan).label_set == "mine"


def test_a_name_with_a_colon_is_no_url(
    folder: Path, toy_bundle: Path, ahse: Ahse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a plan and of a table beside which the commands run: pyarrow would ask for its scheme."""
    monkeypatch.chdir(tmp_path)
    clip, bundle = str(folder / "0.mp4"), ("--bundle", str(toy_bundle))
    assert ahse("bulk", "plan", clip, *WORDS, *bundle, "--out", "run:1")[0] == 0
    assert ahse("bulk", "run", "run:1", *bundle)[0] == 0
    assert ahse("bulk", "status", "run:1")[:2] == (0, "1 of 1 shards, 1 of 1 clips\n")
    words = ("classify", clip, *WORDS, *bundle, "-o", "run:1.parquet")
    assert ahse(*words)[0] == 0
    assert ahse(*words, "--resume") == (0, "", "1 of 1 clips have their answer already\n")


def test_a_bundle_that_is_not_there_is_named_by_its_path(
    folder: Path, planned: Path, ahse: Ahse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever command is told of it; the current folder has no name of its own."""
    monkeypatch.chdir(tmp_path)
    commands = (
        ("bulk", "plan", folder, *WORDS, "--out", "other", "--bundle"),
        ("bulk", "run", planned, "--bundle"),
        ("classify", folder, *WORDS, "--bundle"),
        ("bundle", "inspect"),
        ("bundle", "verify"),
    )
    for words in commands:
        code, _, complaint = ahse(*words, "nope")
        assert (code, f"bundle {tmp_path}/nope: there is no such folder" in complaint) == (2, True)
        assert f"bundle {tmp_path}: there is no manifest.json" in ahse(*words, ".")[2]


def test_nothing_is_replaced_and_nothing_else_is_taken(
    planned: Path, folder: Path, toy_bundle: Path, ahse: Ahse, tmp_path: Path
) -> None:
    """A plan that is there, another bundle, a changed manifest, no plan, no such worker or scheme."""
    plan, bundle = str(planned), ("--bundle", str(toy_bundle))
    other = write_toy_bundle(tmp_path / "other", name="other")
    lists = tmp_path / "l.csv"
    lists.write_text("file\na.mp4\n")
    refused = {
        ("plan", str(folder), *WORDS, *bundle, "--out", plan): "is there already",
        ("run", plan, "--bundle", str(other)): "the plan was made with the bundle toy 1",
        ("run", str(tmp_path / "none")): "holds no plan",
        ("plan", "-", *WORDS, *bundle, "--out", f"{plan}2"): "standard input can't be read again",
        ("run", plan, *bundle, "--shard", "2/2"): "workers counted from 0",
        ("run", plan, *bundle, "--shard", "a"): "--shard must be K/N",
        ("plan", str(lists), *WORDS, *bundle, "--out", f"{plan}2"): "has no column 'clip'",
        ("plan", "nosuch://a/b", *WORDS, *bundle, "--out", f"{plan}2"): "install the package for its scheme",
        ("plan", str(tmp_path / "data"), *bundle, "--out", f"{plan}2"): "no labels were given",
    }
    for words, said in refused.items():
        code, _, complaint = ahse("bulk", *words)
        assert (code, said in complaint) == (2, True), (words, complaint)
    assert not Path(f"{plan}2").exists()
    with (planned / "manifest" / "00001.parquet").open("ab") as file:
        file.write(b" ")
    code, _, complaint = ahse("bulk", "run", plan, *bundle)
    assert (code, "is not the one that was planned" in complaint) == (2, True)


def test_codes_of_the_moment_are_those_of_an_unavailable_service() -> None:
    """Everything else is a property of the clip, and a result."""
    assert {"decoder_unavailable", "overloaded", "clip_unavailable", "internal_error"} <= results._OF_NOW
    assert "not_media" not in results._OF_NOW
