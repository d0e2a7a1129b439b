"""docs/your-own-clips.md does what it says: every command of its example runs, and the bundle serves."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from safetensors import safe_open
from starlette.testclient import TestClient

from demo_world import __main__ as demo_world
from service.api.app import create_app
from service.bundle.directory import read_manifest
from service.settings import DEMO_BUNDLE, EVERYDAY_BUNDLE, Settings
from tests.conftest import Ahse

PAGE = Path(__file__).resolve().parents[1] / "docs" / "your-own-clips.md"


def commands() -> list[list[str]]:
    """The words of each command of the page's shell blocks."""
    blocks = re.findall(r"```sh\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    return [shlex.split(line, comments=True) for block in blocks for line in block.splitlines()]


def record_clips(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the page's first command, `python -m demo_world ...`, in this process."""
    assert words[:3] == ["python", "-m", "demo_world"]
    monkeypatch.setattr("sys.argv", words[2:])
    with pytest.raises(SystemExit) as ended:
        demo_world.main()
    assert not ended.value.code


@pytest.mark.slow
def test_the_worked_example(ahse: Ahse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From clips to answers over HTTP: fewer clips, and encoders that know them, so that answers are right.

    The last command is `ahse serve`, and is run in this process.
    """
    monkeypatch.chdir(tmp_path)
    Path("weights").mkdir()
    Path("weights/demo").symlink_to(DEMO_BUNDLE)
    quicker = {"weights/everyday": "weights/demo", "90": "20", "10": "6"}
    record, *run, serve = [[quicker.get(word, word) for word in words] for words in commands()]
    record_clips(record, monkeypatch)
    assert [words[:2] for words in run if words[1] in ("extract", "export")] == [
        ["ahse", "extract"],
        ["ahse", "export"],
    ]
    for name, *words in run:
        assert name == "ahse"
        code, said, complaint = ahse(*words)
        assert (code, complaint) == (0, ""), said
    assert serve[:3] == ["ahse", "serve", "--bundle"]
    _check_manifest(Path(serve[3]))
    _check_answers(Path(serve[3]), Path("my-clips"))


@pytest.mark.slow
def test_the_worked_example_on_its_own_encoders(
    ahse: Ahse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page's commands as they are, on fewer clips."""
    monkeypatch.chdir(tmp_path)
    Path("weights").mkdir()
    Path("weights/everyday").symlink_to(EVERYDAY_BUNDLE)
    smaller = {
        "90": "6",
        "10": "3",
        "n_batches_per_epoch=30": "n_batches_per_epoch=3",
    }
    record, *run, serve = commands()
    record_clips([smaller.get(word, word) for word in record], monkeypatch)
    for _, *words in run:
        code, said, complaint = ahse(*(smaller.get(word, word) for word in words))
        assert (code, complaint) == (0, ""), said
    mine, everyday = read_manifest(Path(serve[3])), read_manifest(EVERYDAY_BUNDLE)
    assert mine.encoders_digest() == everyday.encoders_digest()
    assert mine.known_names == everyday.known_names
    clip = next(Path("my-clips").rglob("*.mp4"))
    with TestClient(create_app(Settings(bundles=(Path(serve[3]),), data_dir=Path("data")))) as client:
        labels = [*mine.seen_classes, *mine.unseen_classes]
        answer = client.post(
            "/v1/classify", files={"file": clip.read_bytes()}, data={"labels": labels}
        ).json()
    assert {one["label"] for one in answer["predictions"]} == set(labels)
    assert {one["label"] for one in answer["predictions"] if one["seen"]} == set(mine.seen_classes)


def _check_manifest(directory: Path) -> None:
    """The encoders are the demo's, the head is not, and the figures are in."""
    mine, demo = read_manifest(directory), read_manifest(DEMO_BUNDLE)
    assert mine.name == "mine"
    assert mine.encoders_digest() == demo.encoders_digest()
    assert mine.files["head_av.onnx"] != demo.files["head_av.onnx"]
    assert (len(mine.seen_classes), len(mine.unseen_classes)) == (16, 4)
    assert {"HM, both tracks", "ZSL, both tracks"} <= {metric.name for metric in mine.metrics}
    with safe_open("my-features.safetensors", framework="numpy") as features:
        assert mine.encoders_digest() in features.metadata()["ahse_features"]


def _check_answers(bundle: Path, clips: Path) -> None:
    """Most clips are given their folder's name, out of all twenty."""
    names = sorted(folder.name for folder in clips.iterdir())
    with TestClient(create_app(Settings(bundles=(bundle,), data_dir=bundle.parent / "data"))) as client:
        right = [name == _best(client, clips / name / "000.mp4", names) for name in names]
    assert sum(right) >= 15


def _best(client: TestClient, clip: Path, names: list[str]) -> str:
    answer = client.post("/v1/classify", files={"file": clip.read_bytes()}, data={"labels": names}).json()
    return str(answer["predictions"][0]["label"])
