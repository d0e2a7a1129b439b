"""`ahse classify` with many clips: here and at a service, into files, resumed, with subtitles."""

from __future__ import annotations

import io
import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from service.client import Client, UnreachableError
from tests.conftest import Ahse
from tests.service.serving import serving
from tests.toy import CLASSES, write_scenes

LABELS = [word for name in CLASSES for word in ("--label", name)]


@pytest.fixture
def folder(clips: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder `clips` of four good clips and a damaged one, beside which the commands run."""
    for place, name in (("b.mp4", "blue high"), ("a", "red low"), ("x/c.mp4", "green"), ("x/d", "middle")):
        (tmp_path / "clips" / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(clips[name], tmp_path / "clips" / place)
    (tmp_path / "clips" / "damaged.mp4").write_bytes(clips["red low"].read_bytes()[:1000])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AHSE_DATA_DIR", str(tmp_path / "data"))
    return tmp_path / "clips"


def _records(path: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


@pytest.mark.usefixtures("folder")
def test_here_and_at_a_service_records_are_the_same(ahse: Ahse, toy_bundle: Path, toy_service: str) -> None:
    """Answers and failures, in the order of the clips; only the times of the steps differ."""
    asked = ("clips", "gone.mp4", *LABELS, "--segment-s", "1", "--top-k", "3")
    here = ahse("classify", *asked, "--bundle", toy_bundle, "-o", "here.jsonl")
    there = ahse("classify", *asked, "--url", toy_service, "-o", "there.jsonl")
    assert here == there
    code, out, err = here
    assert (code, out) == (1, "")
    assert err.splitlines()[-3:] == [
        "2 of 6 clips failed:",
        "  clips/damaged.mp4 [truncated_media]",
        "  gone.mp4 [missing_file]",
    ]
    records, others = _records("here.jsonl"), _records("there.jsonl")
    assert [record["file"] for record in records] == [
        *("clips/a", "clips/b.mp4", "clips/damaged.mp4", "clips/x/c.mp4", "clips/x/d", "gone.mp4")
    ]
    assert records[2]["error"]["message"].startswith("The clip ends before its index")
    assert records[0]["predictions"][0]["label"] == CLASSES[0]
    steps = [[record.pop("timings_ms", None) for record in some] for some in (records, others)]
    assert records == others
    assert steps[0] != steps[1]


@pytest.mark.usefixtures("folder")
def test_printed_text_is_the_same_too(ahse: Ahse, toy_bundle: Path, toy_service: str) -> None:
    """And so is JSON, where failures are printed as records."""
    for form in ((), ("--json",)):
        here = ahse("classify", "clips", *LABELS, *form, "--bundle", toy_bundle, "--jobs", "1")
        there = ahse("classify", "clips", *LABELS, *form, "--url", toy_service, "--bundle", "toy")
        assert here[0] == there[0] == 1
        assert here[2] == there[2]
        if not form:
            assert here[1] == there[1]
            assert here[1].startswith("clips/a\n")
        files = [json.loads(line)["file"] for line in here[1].splitlines()] if form else []
        assert len(files) == (5 if form else 0)


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("ending", ["jsonl", "csv"])
def test_a_run_is_resumed(
    ahse: Ahse, toy_bundle: Path, folder: Path, clips: dict[str, Path], ending: str
) -> None:
    """Answers stay; what failed, changed or is new is ranked; then nothing is left to do."""
    asked = ("classify", "clips", *LABELS, "--bundle", toy_bundle, "-o", f"r.{ending}")
    assert ahse(*asked)[0] == 1
    code, _, err = ahse(*asked)
    assert code == 2
    assert "r.jsonl is there already" in err or "r.csv is there already" in err
    shutil.copy(clips["green"], folder / "damaged.mp4")
    shutil.copy(clips["blue high"], folder / "a")
    (folder / "new.mp4").write_bytes(clips["middle"].read_bytes())
    code, _, err = ahse(*asked, "--resume")
    n_again = 1 if ending == "csv" else 0  # of a table the last clip is ranked again
    assert (code, err) == (0, f"{3 - n_again} of 6 clips have their answer already\n")
    code, _, err = ahse(*asked, "--resume")
    assert (code, err) == (0, f"{6 - n_again} of 6 clips have their answer already\n")
    assert Path(f"r.{ending}").read_text().count("blue high") + Path(f"r.{ending}").read_text().count(
        "clips/a"
    )
    code, _, err = ahse(*asked, "--label", "another name", "--resume")
    assert code == 2
    assert "other names, options or another bundle" in err
    assert ahse(*asked, "--overwrite")[0] == 0


@pytest.mark.usefixtures("folder")
def test_subtitles_are_written_beside_the_clips_or_in_a_folder(
    ahse: Ahse, toy_bundle: Path, folder: Path
) -> None:
    """With the folders of the clips in it; nothing is replaced unless that is said."""
    asked = ("classify", "clips", *LABELS, "--bundle", toy_bundle)
    assert ahse(*asked, "--srt", "--vtt", "--out-dir", "out")[0] == 1
    assert sorted(str(path) for path in Path("out").rglob("*.*")) == [
        *("out/a.srt", "out/a.vtt", "out/b.srt", "out/b.vtt", "out/x/c.srt", "out/x/c.vtt", "out/x/d.srt"),
        "out/x/d.vtt",
    ]
    assert ahse(*asked, "--srt")[0] == 1
    first = (folder / "a.srt").read_text().splitlines()
    assert first[:2] == ["1", "00:00:00,000 --> 00:00:00,500"]
    assert first[2].startswith(f"{CLASSES[0]} (")
    assert first[3:5] == ["", "2"]
    code, out, err = ahse(*asked, "--srt")
    assert (code, out) == (2, "")
    assert "clips/a.srt, clips/b.srt, clips/x/c.srt and 1 more" in err
    assert ahse(*asked, "--srt", "--overwrite")[0] == 1


def test_clips_of_one_name_have_subtitles_of_their_own(
    ahse: Ahse, toy_bundle: Path, clips: dict[str, Path], tmp_path: Path
) -> None:
    """The ending stays where it makes the difference; where even that is the same, nothing is begun."""
    for name in ("a.mp4", "a.mov", "x/a.mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(clips["red low"], tmp_path / name)
    asked = ("classify", "--label", "red", "--label", "blue", "--bundle", toy_bundle, "--vtt")
    assert ahse(*asked, tmp_path / "a.mp4", tmp_path / "a.mov")[0] == 0
    assert sorted(path.name for path in tmp_path.glob("*.vtt")) == ["a.mov.vtt", "a.mp4.vtt"]
    code, _, err = ahse(*asked, "--out-dir", tmp_path / "o", tmp_path / "a.mp4", tmp_path / "x" / "a.mp4")
    assert code == 2
    assert "two clips would have the same file" in err


def test_signs_of_markup_in_names_stay_text(
    ahse: Ahse, toy_bundle: Path, clips: dict[str, Path], tmp_path: Path
) -> None:
    """WebVTT would take them for tags."""
    asked = (
        "classify",
        clips["red low"],
        "--bundle",
        toy_bundle,
        "--label",
        "<i>red</i> & {}",
        "--label",
        "blue",
    )
    assert ahse(*asked, "--vtt", "--out-dir", tmp_path)[0] == 0
    (file,) = tmp_path.glob("*.vtt")
    text = file.read_text()
    assert text.startswith("WEBVTT\n\nNOTE toy ")
    assert "&lt;i&gt;red&lt;/i&gt; &amp; {} (" in text


def test_a_segment_without_anything_has_no_subtitle(ahse: Ahse, toy_bundle: Path, tmp_path: Path) -> None:
    """Sound without a picture, then silence."""
    clip = write_scenes(tmp_path / "s.mp4", [], ["low", None], seconds=2.0)
    asked = (
        "classify",
        clip,
        "--bundle",
        toy_bundle,
        "--label",
        "low",
        "--label",
        "high",
        "--segment-s",
        "2",
    )
    assert ahse(*asked, "--srt")[0] == 0
    assert (tmp_path / "s.srt").read_text().count("-->") == 1


def test_a_clip_on_standard_input(
    ahse: Ahse, toy_bundle: Path, toy_service: str, clips: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here and at a service; it can't be the list of names too."""
    for where in (("--bundle", toy_bundle), ("--url", toy_service)):
        content = io.BytesIO(clips["red low"].read_bytes())
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(content))
        code, out, _ = ahse("classify", "-", "--label", "red", "--label", "blue", *where)
        assert code == 0
        assert out.splitlines()[0] == "-"
        assert out.splitlines()[1].endswith("  red")
    code, _, err = ahse("classify", "-", "--labels-file", "-", "--url", toy_service)
    assert code == 2
    assert "standard input can't be both" in err


@pytest.mark.parametrize(
    ("content", "names"),
    [
        ("# colours\n\n  red  \n#blue\nblue, dark\n", ["red", "blue, dark"]),
        ("\N{BYTE ORDER MARK}red\r\nblue\r\n", ["red", "blue"]),
        ('["#1", "red"]', ["#1", "red"]),
    ],
)
def test_a_file_of_names(
    ahse: Ahse, toy_bundle: Path, clips: dict[str, Path], tmp_path: Path, content: str, names: list[str]
) -> None:
    """Comments and empty lines are left out; in JSON every text is a name."""
    (tmp_path / "names").write_text(content, encoding="utf-8")
    asked = ("classify", clips["red low"], "--bundle", toy_bundle, "--labels-file", tmp_path / "names")
    _, out, _ = ahse(*asked, "--json")
    assert sorted(one["label"] for one in json.loads(out)["predictions"]) == sorted(names)


def test_a_lone_label_with_a_comma_is_questioned_as_the_service_does(
    ahse: Ahse, toy_service: str, clips: dict[str, Path], tmp_path: Path
) -> None:
    """In the same words, with the remedies of the command line; two labels, or a file, are no question."""
    with Client(toy_service) as client:
        answer = client._http.post(
            "/v1/classify", files={"file": clips["green"].read_bytes()}, data={"labels": "dog, cat"}
        )
    question = answer.json()["detail"].partition(" Send")[0]
    asked = ("classify", clips["green"], "--url", toy_service)
    code, _, err = ahse(*asked, "--label", "dog, cat")
    assert code == 2
    assert err.startswith(f"ahse: {question} Give a list as repeated options")
    assert "[ambiguous_labels]" in err
    (tmp_path / "names").write_text("dog, cat")
    assert ahse(*asked, "--labels-file", tmp_path / "names")[0] == 0
    assert ahse(*asked, "--label", "dog, cat", "--label", "cow")[0] == 0


def test_a_label_set_here_and_at_a_service(
    ahse: Ahse,
    toy_bundle: Path,
    toy_service: str,
    clips: dict[str, Path],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """Its labels and templates; an unknown one is told before any clip."""
    monkeypatch.setenv("AHSE_DATA_DIR", str(tmp_path / "data"))
    answers = []
    for where, store in ((("--bundle", toy_bundle), ()), (("--url", toy_service),) * 2):
        asked = ("classify", clips["red low"], *where, "--label-set", "of-cli", "--json")
        code, _, err = ahse(*asked)
        assert code == 2
        assert "[unknown_label_set]" in err
        assert ahse("labels", "put", "of-cli", "red", "blue", "--template", "very {}", *store)[0] == 0
        answers.append(json.loads(ahse(*asked)[1]))
        assert ahse(*asked, "--label", "red")[0] == 2
    assert answers[0]["predictions"] == answers[1]["predictions"]
    assert answers[0]["label_set"] == answers[1]["label_set"] == "of-cli"
    assert answers[0]["question"] == answers[1]["question"]


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--label", "a", "--resume"), "--resume goes on with a file"),
        (("--label", "a", "--key", "k"), "give its address with --url"),
        (("--label", "a", "--url", "host:8000"), "is no address of a service"),
        (("--label", "a", "-o", "r.xlsx"), ".jsonl, .csv or .parquet"),
        ((), "no labels were given"),
    ],
)
def test_what_can_not_be_done_is_told_before_any_clip(
    ahse: Ahse, toy_bundle: Path, words: tuple[str, ...], says: str
) -> None:
    """In one line, with exit code 2."""
    code, out, err = ahse("classify", "clips", "--bundle", toy_bundle, *words)
    assert (code, out) == (2, "")
    assert says in err


def test_names_of_files_do_not_steer_the_terminal(ahse: Ahse, toy_bundle: Path, tmp_path: Path) -> None:
    """A folder of downloads may hold any; records have them as they are."""
    name = "\x1b[31mred\nline.mp4"
    (tmp_path / name).write_bytes(b"no clip")
    asked = ("classify", tmp_path / name, tmp_path, "--bundle", toy_bundle, "--label", "a", "--label", "b")
    _, out, err = ahse(*asked, "--json")
    assert "\x1b" not in err
    assert "\N{REPLACEMENT CHARACTER}[31mred\N{REPLACEMENT CHARACTER}line.mp4: This is not a clip" in err
    assert json.loads(out)["file"] == str(tmp_path / name)


def test_json_has_no_control_characters(ahse: Ahse, toy_bundle: Path, tmp_path: Path) -> None:
    """JSON lets those from 127 on stand; a terminal takes some of them for commands."""
    name = "\x7f\x9b31mred\N{LATIN SMALL LETTER A WITH DIAERESIS}.mp4"
    (tmp_path / name).write_bytes(b"no clip")
    asked = ("classify", tmp_path / name, "--bundle", toy_bundle, "--label", "a", "--label", "b")
    _, out, _ = ahse(*asked, "--json")
    assert "\\u007f\\u009b31mred\N{LATIN SMALL LETTER A WITH DIAERESIS}.mp4" in out
    assert json.loads(out)["file"] == str(tmp_path / name)


@pytest.mark.parametrize("form", ["r.jsonl", "r.csv", "r.parquet", "a.srt"])
def test_a_full_disk_is_told_with_the_file(
    ahse: Ahse, toy_bundle: Path, clips: dict[str, Path], tmp_path: Path, form: str
) -> None:
    """The system says only that some disk is full."""
    shutil.copy(clips["red low"], tmp_path / "a.mp4")
    file = tmp_path / form
    place = file.with_name(f"{form}.part") if form == "r.parquet" else file
    place.symlink_to("/dev/full")
    words = ("--srt",) if form == "a.srt" else ("-o", file)
    code, _, complaint = ahse(
        "classify", tmp_path / "a.mp4", *LABELS, "--bundle", toy_bundle, *words, "--overwrite"
    )
    assert code == 2
    assert f"No space left on device: '{file}'" in complaint


def test_a_folder_without_clips_is_told(ahse: Ahse, toy_bundle: Path, tmp_path: Path) -> None:
    """With what was skipped in it."""
    (tmp_path / "notes.txt").write_text("text")
    code, _, err = ahse("classify", tmp_path, "--bundle", toy_bundle, "--label", "a")
    assert code == 2
    assert err.splitlines()[0] == (
        "skipped in folders: not media: 1 (a pattern, such as 'CLIPS/*', takes all that it matches)"
    )
    assert "there are no clips in what was given" in err


@pytest.mark.usefixtures("folder")
def test_a_key_that_is_refused_ends_the_run_at_once(ahse: Ahse, toy_bundle: Path, tmp_path: Path) -> None:
    """It would be refused for every clip; with the key it goes on. The key may come from the environment."""
    key = "0123456789abcdef0123456789abcdef"
    with serving(toy_bundle, tmp_path / "data", variables={"AHSE_API_KEY": key}) as client:
        asked = ("classify", "clips", *LABELS, "--url", client.base_url)
        code, _, err = ahse(*asked)
        assert code == 2
        assert "give it with --key or, better, in the environment variable AHSE_API_KEY. [unauthen" in err
        assert len(err.splitlines()) == 1
        assert ahse(*asked, "--key", key)[0] == 1


@pytest.mark.parametrize(("jobs", "n_connections"), [((), 100), (("--jobs", "200"), 200)])
def test_a_run_has_a_connection_for_each_clip_at_once(
    ahse: Ahse, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, jobs: tuple[str, ...], n_connections: int
) -> None:
    """The client has 100 unless it is told otherwise."""
    asked: list[int] = []

    def refuse(*_: object, max_connections: int) -> None:
        asked.append(max_connections)
        raise UnreachableError("no service here")

    monkeypatch.setattr("service.client.Client", refuse)
    (tmp_path / "a.mp4").touch()
    assert ahse("classify", tmp_path / "a.mp4", *LABELS, "--url", "http://host", *jobs)[0] == 2
    assert asked == [n_connections]


@pytest.mark.usefixtures("folder")
def test_a_service_that_goes_away_ends_the_run_which_is_then_resumed(
    ahse: Ahse, toy_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was done is kept; the message says how to go on."""
    monkeypatch.setattr("service.client.tries._FIRST_WAIT_S", 0)
    with serving(toy_bundle, tmp_path / "data") as running:
        url = str(running.base_url)
        asked = ("classify", "clips", *LABELS, "-o", "r.jsonl", "--jobs", "1", "--url")
        real = Client.classify
        n_asked = []

        def classify(self: Client, *args: Any, **options: Any) -> Any:
            n_asked.append(1)
            if len(n_asked) > 2:
                with socket.socket() as free:
                    free.bind(("127.0.0.1", 0))
                    gone = Client(f"http://127.0.0.1:{free.getsockname()[1]}")
                    return real(gone, *args, **options)
            return real(self, *args, **options)

        monkeypatch.setattr(Client, "classify", classify)
        code, _, err = ahse(*asked, url)
        assert code == 1
        assert "can't be reached (5 tries). Check the address, and that it runs." in err
        assert err.rstrip().endswith("2 of 5 clips are done. Go on with --resume.")
        assert len(_records("r.jsonl")) == 2
        monkeypatch.setattr(Client, "classify", real)
        code, _, err = ahse(*asked, url, "--resume")
        assert code == 1
        assert [record["file"] for record in _records("r.jsonl")][:3] == [
            "clips/a",
            "clips/b.mp4",
            "clips/damaged.mp4",
        ]
        assert len(_records("r.jsonl")) == 5


def test_a_service_needs_no_model_here(toy_service: str, clips: dict[str, Path]) -> None:
    """In a process without onnxruntime, av and FastAPI, as a client of a service is installed."""
    code = f"""
import sys
absent = {{"onnxruntime", "av", "fastapi", "starlette", "uvicorn"}}
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in absent:
            raise ModuleNotFoundError(name, name=name)
sys.meta_path.insert(0, Refuse())
sys.argv = ["ahse", "classify", {str(clips["red low"])!r}, "--url", {toy_service!r}]
sys.argv += ["--label", "red", "--label", "blue"]
from service.cli import main
main()
"""
    done = subprocess.run(  # noqa: S603  (our own interpreter and code)
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=os.environ
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[1].endswith("  red")
