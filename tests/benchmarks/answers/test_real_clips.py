"""`python -m benchmarks.answers.real_clips` on toy clips, whose right answers are known."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.answers import real_clips
from benchmarks.answers.clip_measure import CannotMeasureError, Distractors, Measured, measure
from benchmarks.answers.clip_report import clip_lines, count, report
from benchmarks.answers.real_clips import imagenet_names, read_clips, read_distractors
from model_export.errors import DatasetError
from service.registry import Bundle, load_bundle
from service.runtime.providers import Runtime
from tests.toy import CLASSES, COLOURS, TONES_HZ, write_clip, write_toy_bundle

ROOT = Path(__file__).resolve().parents[3]
NONE = Distractors((), "none", all_at_once=False)
Command = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def bundle(toy_bundle: Path) -> Bundle:
    """The toy bundle, loaded."""
    return load_bundle(toy_bundle, Runtime(device="cpu"))


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clip of each toy class, with labels.csv. Don't change it."""
    folder = tmp_path_factory.mktemp("labelled")
    names = [f"{colour} with a {tone} tone" for colour in COLOURS for tone in TONES_HZ]
    for index, name in enumerate(names):
        colour, _, _, tone, _ = name.split()
        write_clip(folder / f"{index}.mp4", colour, tone)
    write_labels(folder, {f"{index}.mp4": name for index, name in enumerate(names)})
    return folder


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """The command in this process: words in; exit code, standard output and standard error out."""

    def run(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["real_clips", *(str(word) for word in words)])
        code = 0
        try:
            real_clips.main()
        except SystemExit as ended:
            code = int(ended.code or 0)
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def write_labels(folder: Path, labels: Mapping[str, str]) -> None:
    """Write labels.csv, with a column that nobody asks for."""
    with (folder / "labels.csv").open("w", encoding="utf-8", newline="") as opened:
        rows = csv.writer(opened)
        rows.writerow(("source", "label", "file"))
        rows.writerows(("mine", label, file) for file, label in labels.items())


def relabelled(labelled: Path, folder: Path, **changed: str) -> Path:
    """A copy of the clips with some labels changed: `_0="..."` is that of 0.mp4."""
    shutil.copytree(labelled, folder)
    labels = {clip.name: clip.label for clip in read_clips(labelled)}
    write_labels(folder, labels | {f"{key[1:]}.mp4": label for key, label in changed.items()})
    return folder


def right_of(measured: Measured) -> dict[str, tuple[float, float]]:
    """Top-1 and top-5 by track, of the shortest lists."""
    first = {track: answers[0] for track, answers in measured.answers.items()}
    return {
        track: (count(one.is_first).n_right, count(one.is_among_best).n_right)
        for track, one in first.items()
        if one.n_clips
    }


def picture_file(path: Path, pixels: NDArray[np.uint8], codec: str, pixel_format: str) -> Path:
    """Write one still picture: uint8 [height, width, 3], RGB."""
    encoder = av.CodecContext.create(codec, "w")
    assert isinstance(encoder, av.VideoCodecContext)
    encoder.height, encoder.width = pixels.shape[:2]
    encoder.pix_fmt, encoder.framerate = pixel_format, Fraction(1)
    frame = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format=pixel_format)
    path.write_bytes(b"".join(bytes(packet) for packet in [*encoder.encode(frame), *encoder.encode()]))
    return path


def test_both_tracks_together_find_every_name(bundle: Bundle, labelled: Path) -> None:
    """One track alone leaves three names that fit alike, of which the first by the alphabet is taken."""
    measured = measure(bundle, read_clips(labelled), NONE, [])
    assert right_of(measured) == {"picture": (3, 9), "sound": (3, 9), "fused": (9, 9)}


def test_a_wrong_label_lowers_the_count(bundle: Bundle, labelled: Path, tmp_path: Path) -> None:
    """Two clips whose labels changed places are wrong both, and the others are not."""
    swapped = relabelled(labelled, tmp_path / "swapped", _0=CLASSES[8], _8=CLASSES[0])
    measured = measure(bundle, read_clips(swapped), NONE, [])
    assert right_of(measured)["fused"][0] == 7
    wrong = [line for line in clip_lines(measured) if line.endswith("| wrong |")]
    assert wrong == [
        f"| 0.mp4 | {CLASSES[8]} | {CLASSES[0]} | wrong |",
        f"| 8.mp4 | {CLASSES[0]} | {CLASSES[8]} | wrong |",
    ]


def test_labels_in_other_spellings_are_one_name(bundle: Bundle, labelled: Path, tmp_path: Path) -> None:
    """Case and spacing: two clips of one name."""
    folder = relabelled(labelled, tmp_path / "spelt", _1=CLASSES[0].upper(), _0=f" {CLASSES[0]}  ")
    clips = read_clips(folder)
    assert [clip.label for clip in clips[:2]] == [CLASSES[0]] * 2
    assert measure(bundle, clips, NONE, []).n_own == 8


def test_distractors_that_are_own_names_or_come_twice_are_dropped(bundle: Bundle, labelled: Path) -> None:
    """Nine own names, three others."""
    names = (CLASSES[0].upper(), "red", "Red", "", "  ", "green", "blue", "blue ")
    measured = measure(
        bundle, read_clips(labelled), Distractors(names, "mine", all_at_once=True), [9, 10, 500]
    )
    assert [label.name for label in measured.labels] == sorted(
        [*CLASSES, "red", "green", "blue"], key=str.lower
    )
    assert [one.n_names for one in measured.answers["fused"]] == [9, 10, 12]
    assert [one.n_draws for one in measured.answers["fused"]] == [1, 20, 1]


def test_a_distractor_that_fits_costs_a_clip(bundle: Bundle, labelled: Path) -> None:
    """The toy encoders don't know "some", so that both names fit alike, and the alphabet decides."""
    fits = Distractors(("a low red",), "mine", all_at_once=True)
    measured = measure(bundle, read_clips(labelled), fits, [])
    own, longer = measured.answers["fused"]
    assert (count(own.is_first).n_right, count(longer.is_first).n_right) == (9, 8)
    assert count(longer.is_among_best).n_right == 9


def test_unknown_tells_clips_whose_name_is_missing(bundle: Bundle, labelled: Path, tmp_path: Path) -> None:
    """The report has the figure, and says where a bundle has no `unknown`."""
    measured = measure(bundle, read_clips(labelled), NONE, [])
    assert "| 9 (own) | 1.000 |" in "\n".join(report(measured))
    similarity = write_toy_bundle(tmp_path / "similarity", head="similarity")
    without = measure(load_bundle(similarity, Runtime(device="cpu")), read_clips(labelled), NONE, [])
    assert "| 9 (own) | no `unknown` |" in "\n".join(report(without))


@pytest.mark.parametrize(
    ("file", "codec", "pixel_format"), [("50%d.PNG", "png", "rgb24"), ("b.jpg", "mjpeg", "yuvj444p")]
)
def test_still_pictures_are_wrapped(
    bundle: Bundle, tmp_path: Path, file: str, codec: str, pixel_format: str
) -> None:
    """The service takes no pictures; the pixels are those of the picture, and the report says so."""
    pixels = np.broadcast_to(np.array(COLOURS["green"], np.uint8), (31, 45, 3)).copy()
    picture_file(tmp_path / file, pixels, codec, pixel_format)
    write_labels(tmp_path, {file: CLASSES[3]})
    measured = measure(bundle, read_clips(tmp_path), Distractors((CLASSES[0],), "mine", all_at_once=True), [])
    assert right_of(measured) == {"picture": (1, 1), "fused": (1, 1)}
    assert "- 1 still pictures, wrapped into clips of one frame" in report(measured)
    (features,) = measured.encoded.features
    assert features.visual == pytest.approx(
        np.array(COLOURS["green"]) / np.linalg.norm(COLOURS["green"]), abs=0.01
    )


def test_clips_that_cannot_be_used_are_named_and_not_counted(
    bundle: Bundle, labelled: Path, tmp_path: Path
) -> None:
    """A text that calls itself a clip, a picture that is none; the others are measured."""
    folder = relabelled(labelled, tmp_path / "some", _text=CLASSES[0])
    (folder / "text.mp4").write_text("no clip")
    (folder / "none.png").write_text("no picture")
    with (folder / "labels.csv").open("a", encoding="utf-8") as listing:
        listing.write(f"mine,{CLASSES[1]},none.png\n")
    measured = measure(bundle, read_clips(folder), NONE, [])
    assert right_of(measured)["fused"] == (9, 9)
    assert [line.partition(":")[0] for line in measured.encoded.failed] == ["text.mp4", "none.png"]
    assert "- not counted, could not be used: 2" in report(measured)


def test_a_folder_for_each_class_will_do(bundle: Bundle, labelled: Path, tmp_path: Path) -> None:
    """Without labels.csv."""
    for clip in read_clips(labelled):
        (tmp_path / clip.label).mkdir()
        shutil.copy(clip.path, tmp_path / clip.label)
    assert right_of(measure(bundle, read_clips(tmp_path), NONE, []))["fused"] == (9, 9)


def test_the_command_says_what_was_measured(
    command: Command, toy_bundle: Path, labelled: Path, tmp_path: Path
) -> None:
    """Tables, each clip, and the same as JSON."""
    (tmp_path / "names.txt").write_text("red\ngreen\nred\n")
    code, said, _ = command(
        labelled, "--bundle", toy_bundle, "--lists", 4, 10, "--distractors", tmp_path / "names.txt",
        "--json", tmp_path / "out.json", "--verbose",
    )  # fmt: skip
    assert code == 0
    assert "# toy 1: 9 clips of 9 names" in said
    assert "- 9 clips with picture and 9 with sound; fused is by what a clip has" in said
    assert "- distractors: 2 names, names.txt" in said
    assert "| 9 (own) | 3 (12-65 %) | 9 (70-100 %) | 3 (12-65 %) | 9 (70-100 %) | 9 (70-100 %) |" in said
    assert f"| 0.mp4 | {CLASSES[0]} | {CLASSES[0]} | right |" in said
    written = json.loads((tmp_path / "out.json").read_text())
    assert [one["n_names"] for one in written["lists"]] == [4, 9, 10, 11]
    assert written["lists"][1]["fused"]["top_1"]["n_right"] == 9
    assert (written["bundle"]["name"], written["n_distractors"]) == ("toy", 2)
    assert [clip["right"] for clip in written["clips"]] == [True] * 9


def test_the_notice_of_the_bundle_is_in_the_report(bundle: Bundle, labelled: Path) -> None:
    """Whoever reads the figures must know it too; so must they know what is said of the clips."""
    measured = measure(bundle, read_clips(labelled)[:2], NONE, [])
    manifest = measured.manifest.model_copy(update={"notice": "Knows three colours only."})
    lines = report(replace(measured, manifest=manifest), ["drawn, not filmed"])
    assert "- notice of the bundle: Knows three colours only." in lines
    assert "- drawn, not filmed" in lines


def test_a_column_of_a_csv_holds_distractors(tmp_path: Path) -> None:
    """Names may have commas."""
    (tmp_path / "names.csv").write_text(
        'id,manual\n1,dog barking\n2,"train, far away"\n', encoding="utf-8-sig"
    )
    found = read_distractors(tmp_path / "names.csv", "manual")
    assert found == Distractors(("dog barking", "train, far away"), "names.csv", all_at_once=True)
    with pytest.raises(CannotMeasureError, match=r"names\.csv has no column 'name'"):
        read_distractors(tmp_path / "names.csv", "name")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("path,label\na.mp4,dog\n", "has no column 'file'"),
        ("file,label\nmissing.mp4,dog\n", "row 2: there is no file 'missing.mp4'"),
        ("file,label\na.mp4,dog\na.mp4,\n", "row 3: a label is empty"),
        ("file,label\n", "has no row"),
    ],
)
def test_faults_of_labels_csv_are_said(tmp_path: Path, text: str, why: str) -> None:
    """With the row."""
    (tmp_path / "a.mp4").touch()
    (tmp_path / "labels.csv").write_text(text)
    with pytest.raises(CannotMeasureError, match=why):
        read_clips(tmp_path)


def test_folders_without_clips_are_refused(tmp_path: Path) -> None:
    """None at all, and an empty one."""
    with pytest.raises(CannotMeasureError, match="no such folder"):
        read_clips(tmp_path / "nowhere")
    with pytest.raises(DatasetError, match="a folder for each class"):
        read_clips(tmp_path)


def test_one_name_is_no_choice(bundle: Bundle, labelled: Path) -> None:
    """Every clip would be right."""
    with pytest.raises(CannotMeasureError, match="There is one name only"):
        measure(bundle, read_clips(labelled)[:1], NONE, [])


def test_the_command_ends_with_the_reason(command: Command, labelled: Path, tmp_path: Path) -> None:
    """One line and exit code 2: a bundle that is none, and clips that are none."""
    code, said, complaint = command(labelled, "--bundle", tmp_path)
    assert (code, said) == (2, "")
    assert complaint.startswith(f"{tmp_path}: there is no manifest.json")
    code, _, complaint = command(tmp_path / "nowhere")
    assert (code, complaint.count("\n")) == (2, 1)


@pytest.mark.slow
def test_imagenet_names_are_those_of_open_clip() -> None:
    """They are read from its source without importing it."""
    import open_clip

    assert imagenet_names() == tuple(open_clip.IMAGENET_CLASSNAMES)


def test_nothing_needs_the_training_packages(toy_bundle: Path, labelled: Path) -> None:
    """As in the environment of the service: measured all the same, without ImageNet's names."""
    code = f"""
import sys, importlib.util
banned = {{"torch", "transformers", "open_clip", "laion_clap", "onnx", "PIL", "scipy", "sklearn"}}
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in banned:
            raise ModuleNotFoundError(name, name=name)
sys.meta_path.insert(0, Refuse())
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: None if name in banned else find(name, package)
import benchmarks.answers.stamps
from benchmarks.answers.real_clips import main
sys.argv = ["real_clips", {str(labelled)!r}, "--bundle", {str(toy_bundle)!r}]
main()
"""
    done = subprocess.run(  # noqa: S603  (our own interpreter and code)
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert "- distractors: none: open_clip, which has ImageNet's, is not here" in done.stdout, done.stderr
