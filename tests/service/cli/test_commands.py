"""The commands that need no server."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from service import __version__
from service.cli import main
from service.options import ClassifyOptions
from tests.toy import CLASSES, NOTICE, write_scenes, write_toy_bundle

Capture = pytest.CaptureFixture[str]
Clips = dict[str, Path]
FAR = "'piano', 'синий'"


def _run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    """Exit code of `ahse ARGUMENTS`."""
    monkeypatch.setattr("sys.argv", ["ahse", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def test_classify_prints_json(
    toy_bundle: Path, clips: Clips, monkeypatch: pytest.MonkeyPatch, capsys: Capture, tmp_path: Path
) -> None:
    """One object a clip, labels from flags and from a file together."""
    (tmp_path / "labels.txt").write_text("\n".join(CLASSES[1:]) + "\n\n")
    code = _run(
        monkeypatch,
        *("classify", clips["red low"], clips["blue high"], "--bundle", toy_bundle, "--json"),
        *("--label", CLASSES[0], "--labels-file", tmp_path / "labels.txt", "--top-k", "2"),
    )
    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert code == 0
    assert [answer["predictions"][0]["label"] for answer in answers] == [
        "red with a low tone",
        "blue with a high tone",
    ]
    assert [len(answer["predictions"]) for answer in answers] == [2, 2]


def test_classify_prints_text_and_goes_on_after_a_bad_clip(
    toy_bundle: Path, clips: Clips, monkeypatch: pytest.MonkeyPatch, capsys: Capture, tmp_path: Path
) -> None:
    """The bad one is named on stderr; exit code 1 says that not all went well."""
    (tmp_path / "text.mp4").write_text("no clip " * 100)
    labels = [part for name in ("green", "red") for part in ("--label", name)]
    code = _run(
        monkeypatch,
        *("classify", tmp_path / "none.mp4", tmp_path / "text.mp4", clips["green"]),
        *("--bundle", toy_bundle, *labels),
    )
    out, err = capsys.readouterr()
    assert code == 1
    assert out.splitlines()[1].split()[1] == "green"
    assert "no sound was used" in out
    assert "none.mp4: there is no such file" in err
    assert "[not_media]" in err


def test_timeline_prints_a_table(
    toy_bundle: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture, tmp_path: Path
) -> None:
    """A line for each segment after the ranking of the whole: its ends, its best names, and what it lacks."""
    clip = write_scenes(tmp_path / "c.mp4", ["red", "blue"], ["low", None], seconds=2.0)
    labels = [part for name in CLASSES for part in ("--label", name)]
    arguments = ("classify", clip, "--bundle", toy_bundle, *labels, "--calibration", "off", "--top-k", "2")
    assert _run(monkeypatch, *arguments, "--segment-s", "2") == 0
    lines = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r" +perhaps none of these \(unknown [0-9]+%\)", lines[3])
    assert lines[4].split() == ["start", "end", "s", "best", "names"]
    assert re.fullmatch(r" +0\.0 +2\.0 +[0-9.]+% red with a low tone +[0-9.]+% .* tone", lines[5])
    assert re.fullmatch(r" +2\.0 +4\.[0-9] .*% blue with a .*\(picture alone\)", lines[6])
    assert len(lines) == 7


def test_timeline_takes_the_window_of_the_bundle_and_goes_with_json(
    toy_bundle: Path, clips: Clips, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    """Half a second for the toy bundle; the same segments as in the answer of the service."""
    arguments = ("classify", clips["red low"], "--bundle", toy_bundle, "--label", "red", "--label", "blue")
    assert _run(monkeypatch, *arguments, "--timeline", "--json") == 0
    segments = json.loads(capsys.readouterr().out)["segments"]
    assert [segment["start_s"] for segment in segments] == [0, 0.5]
    assert [segment["predictions"][0]["label"] for segment in segments] == ["red", "red"]
    assert _run(monkeypatch, *arguments, "--json") == 0
    assert json.loads(capsys.readouterr().out)["segments"] is None
    assert _run(monkeypatch, *arguments, "--segment-s", "0") == 2
    assert "from 1 to 600" in capsys.readouterr().err


def test_timeline_says_where_there_is_nothing(
    toy_bundle: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture, tmp_path: Path
) -> None:
    """Sound without a picture, and two seconds of it silent."""
    clip = write_scenes(tmp_path / "s.mp4", [], ["low", None], seconds=2.0)
    arguments = ("classify", clip, "--bundle", toy_bundle, "--label", "low", "--label", "high")
    assert _run(monkeypatch, *arguments, "--segment-s", "2") == 0
    out = capsys.readouterr().out
    assert "(sound alone)" in out
    assert "nothing to rank by (picture: no video stream; sound: digital silence)" in out


def test_far_names_and_the_notice_are_told(
    shared_bundle: Path, clips: Clips, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    """In the text as notes, the notice first; in JSON as the service has them."""
    names = ("red", "piano", "синий")
    arguments = ("classify", clips["green"], "--bundle", shared_bundle)
    labels = [part for name in names for part in ("--label", name)]
    assert _run(monkeypatch, *arguments, *labels) == 0
    notes = [line for line in capsys.readouterr().out.splitlines() if line.startswith("  note: ")]
    far = f"Far from every name that the bundle's encoders know, so their scores mean little: {FAR}."
    assert notes[0] == f"  note: {NOTICE}"
    assert notes[-1] == f"  note: {far}"
    assert _run(monkeypatch, *arguments, *labels, "--json") == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["bundle_notice"] == NOTICE
    assert answer["warnings"][-1] == far


def test_without_a_notice_there_is_no_note_of_it(
    toy_bundle: Path, clips: Clips, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    """JSON says null; nothing is known of far names either."""
    arguments = ("classify", clips["red low"], "--bundle", toy_bundle, "--label", "red", "--label", "piano")
    assert _run(monkeypatch, *arguments) == 0
    assert "note:" not in capsys.readouterr().out
    assert _run(monkeypatch, *arguments, "--json") == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["bundle_notice"], answer["warnings"]) == (None, [])


def test_inspect_prints_the_notice(
    toy_bundle: Path, shared_bundle: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    """Where there is one."""
    assert _run(monkeypatch, "bundle", "inspect", shared_bundle) == 0
    assert f"notice  {NOTICE}" in capsys.readouterr().out.splitlines()
    assert _run(monkeypatch, "bundle", "inspect", toy_bundle) == 0
    assert "notice" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "no_labels"),
        ('["a", 1]', "JSON array of strings"),
        ("[a", "not a JSON array"),
        ("a\nA\n", "duplicate"),
    ],
)
def test_bad_label_files(
    toy_bundle: Path,
    clips: Clips,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Capture,
    tmp_path: Path,
    content: str,
    says: str,
) -> None:
    """Exit code 2 before any clip is looked at."""
    (tmp_path / "labels").write_text(content)
    arguments = ("classify", clips["red low"], "--bundle", toy_bundle, "--labels-file", tmp_path / "labels")
    assert _run(monkeypatch, *arguments) == 2
    assert says in capsys.readouterr().err


def test_bundle_inspect_and_verify(
    toy_bundle: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture, tmp_path: Path
) -> None:
    """What it is, and whether it is whole."""
    assert _run(monkeypatch, "bundle", "inspect", toy_bundle) == 0
    assert "4 frames of 16 px (uniform)" in capsys.readouterr().out
    assert _run(monkeypatch, "bundle", "inspect", toy_bundle, "--json") == 0
    assert json.loads(capsys.readouterr().out)["name"] == "toy"
    assert _run(monkeypatch, "bundle", "verify", toy_bundle) == 0
    assert "are as the manifest says" in capsys.readouterr().out
    assert _run(monkeypatch, "bundle", "verify", tmp_path) == 2
    assert "[bundle_invalid]" in capsys.readouterr().err


def test_bundle_inspect_says_what_it_was_made_of(
    monkeypatch: pytest.MonkeyPatch, capsys: Capture, tmp_path: Path
) -> None:
    """Every file with its version and hash; those of no hub by their package, or as local."""
    bundle = write_toy_bundle(tmp_path / "toy")
    document = json.loads((bundle / "manifest.json").read_text())
    of_the_hub = {"repository": "someone/model", "revision": "c0ffee"}
    document["provenance"]["sources"] = [
        {"part": "image encoder", **of_the_hub, "file": "a.safetensors", "sha256": "1" * 64},
        {"part": "image tokenizer", "revision": "open-clip-torch 3.3.0", "file": "b.gz", "sha256": "2" * 64},
        {"part": "audio encoder", "file": "c.pt", "sha256": "3" * 64},
    ]
    (bundle / "manifest.json").write_text(json.dumps(document))
    assert _run(monkeypatch, "bundle", "inspect", bundle) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("source")]
    assert lines == [
        f"source  image encoder: someone/model@c0ffee a.safetensors sha256 {'1' * 64}",
        f"source  image tokenizer: open-clip-torch 3.3.0 b.gz sha256 {'2' * 64}",
        f"source  audio encoder: local file c.pt sha256 {'3' * 64}",
    ]


def test_version(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    """For bug reports."""
    assert _run(monkeypatch, "--version") == 0
    assert capsys.readouterr().out == f"ahse {__version__}\n"


@pytest.mark.parametrize(
    ("flag", "value", "says"),
    [
        ("--top-k", "0", "top_k must be a whole number from 1"),
        ("--frames", "all", "frames must be exact, or key"),
        ("--audio-windows", "0", "audio_windows must be a whole number from 1 to 1000"),
    ],
)
def test_a_wrong_option_is_told_in_our_own_words(
    monkeypatch: pytest.MonkeyPatch, capsys: Capture, flag: str, value: str, says: str
) -> None:
    """In one line, without the text and the address of the validator."""
    assert _run(monkeypatch, "classify", "x.mp4", "--label", "a", flag, value) == 2
    error = capsys.readouterr().err
    assert says in error
    assert len(error.splitlines()) == 1


def test_every_option_of_a_request_has_a_flag(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    """An option that is added to the model is not forgotten on the command line."""
    assert _run(monkeypatch, "classify", "--help") == 0
    help_text = capsys.readouterr().out
    names = {field.alias or name for name, field in ClassifyOptions.model_fields.items()}
    # One template a flag, which is repeated.
    flags = {f"--{name.replace('_', '-')}" for name in names - {"templates"}} | {"--template"}
    assert [flag for flag in sorted(flags) if flag not in help_text] == []
