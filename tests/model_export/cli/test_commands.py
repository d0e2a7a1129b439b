"""The commands of `ahse` that train: what a user types, what comes back, and how it ends."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from model_export.cli import dataset, evaluate, report, train
from model_export.cli.app import TrainingApp
from model_export.cli.source import open_dataset
from model_export.data.feature_file import FeatureSet, read_feature_file, write_feature_file
from model_export.errors import DatasetError
from model_export.head.run import Run
from tests.model_export.data.layout import write_layout
from tests.model_export.head.small_world import small_world

Command = Callable[..., tuple[int, str, str]]
SMALL = ("--set", "n_epochs=2", "--set", "n_batches_per_epoch=3", "--set", "batch_size=8", "--threads", "1")


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Command:
    """Run a command; exit code, standard output, standard error."""

    def run(app: TrainingApp, *words: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            app(args=[str(word) for word in words], prog_name="ahse")
        captured = capsys.readouterr()
        return int(ended.value.code or 0), captured.out, captured.err

    return run


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A feature file of the small world."""
    path = tmp_path_factory.mktemp("features") / "small.safetensors"
    data = replace(small_world(), encoders="bundle abc")
    names = {s: tuple(f"{s} {i}" for i in range(len(clips))) for s, clips in data.named_splits()}
    write_feature_file(path, FeatureSet(data, names))
    return path


def test_train_evaluate_and_report_go_together(command: Command, features: Path, tmp_path: Path) -> None:
    """Two seeds of two methods, from features to a page."""
    runs = []
    for preset in ("ahse", "baseline"):
        for seed in (0, 1):
            runs.append(tmp_path / f"{preset}_{seed}")
            words = (features, "--out", runs[-1], "--preset", preset, "--seed", seed, *SMALL)
            code, out, _ = command(train.app, *words)
            assert (code, "SIMULATED small world" in out) == (0, True)
    assert Run.load(runs[1]).config.head.seed == 1
    assert Run.load(runs[1]).config.head.n_epochs == 2

    code, out, _ = command(evaluate.app, *runs, features)
    assert code == 0
    assert "Test clips of SIMULATED small world" in out
    code, out, _ = command(evaluate.app, *runs, features, "--json")
    names = [method["name"] for method in json.loads(out)["methods"]]
    assert names == ["baseline", "AHSE + text geometry + distillation + track dropout"]

    code, out, _ = command(report.app, *runs, "--out", tmp_path / "report")
    assert code == 0
    assert (tmp_path / "report" / "report.html").is_file()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (("lr=abc",), "--set lr: Input should be a valid number"),
        (("speed=9",), "--set speed: Extra inputs are not permitted"),
        (("lr",), "--set lr: Input should be a valid number"),
        (("dropout=1.5",), "--set dropout: Input should be less than 1"),
    ],
)
def test_a_wrong_setting_is_one_line_and_exit_code_2(
    command: Command, features: Path, tmp_path: Path, changes: tuple[str, ...], said: str
) -> None:
    """And no run folder is made."""
    words = [word for change in changes for word in ("--set", change)]
    code, _, err = command(train.app, features, "--out", tmp_path / "run", *words)
    assert code == 2
    assert said in err
    assert len(err.splitlines()) == 1
    assert not (tmp_path / "run").exists()


def cut(path: Path) -> Path:
    """Half of a file."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


def test_data_that_cannot_be_read_is_said_plainly(command: Command, features: Path, tmp_path: Path) -> None:
    """Missing, of an unknown kind, cut short: exit code 2, and nothing is left behind."""
    copy = tmp_path / "cut.safetensors"
    copy.write_bytes(features.read_bytes())
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "empty").mkdir()
    said = {
        tmp_path / "none": "no such file or folder",
        tmp_path / "notes.txt": "not a data set",
        cut(copy): "cut short or damaged",
        tmp_path / "empty": "should hold exactly one of",
    }
    for path, what in said.items():
        code, _, err = command(train.app, path, "--out", tmp_path / "run")
        assert (code, what in err) == (2, True), err
        assert "Traceback" not in err
    assert not (tmp_path / "run").exists()


def test_evaluate_wants_the_data_that_the_run_was_trained_on(
    command: Command, small_run: Run, features: Path, tmp_path: Path
) -> None:
    """Other data is refused; a run without data is a usage error."""
    other, names = replace(small_world(seed=3), encoders="bundle xyz"), read_feature_file(features).clip_names
    write_feature_file(tmp_path / "other.safetensors", FeatureSet(other, names))
    code, _, err = command(evaluate.app, small_run.path, tmp_path / "other.safetensors")
    assert code == 2
    assert "was trained on other data" in err
    assert "bundle xyz" in err
    assert command(evaluate.app, small_run.path)[0] == 2


def test_report_wants_evaluated_runs(command: Command, tmp_path: Path) -> None:
    """And writes nothing otherwise."""
    code, _, err = command(report.app, tmp_path, "--out", tmp_path / "report")
    assert code == 2
    assert "was not evaluated" in err
    assert not (tmp_path / "report").exists()


def test_check_ends_with_2_where_there_are_problems(command: Command, tmp_path: Path) -> None:
    """And with 0 where there are none; JSON on demand."""
    root = write_layout(tmp_path / "set")
    code, out, _ = command(dataset.app, "check", root)
    assert code == 0
    assert "0 problems" in out
    assert "the reference loader takes another class's text for" in out
    (root / "class-split/cls_split/stage_2_test_unseen.txt").write_text("")
    code, out, _ = command(dataset.app, "check", root, "--json")
    assert code == 2
    assert json.loads(out)["problems"] == ["class-split/cls_split/stage_2_test_unseen.txt: lists no class"]


def test_pack_writes_a_feature_file_of_the_same_data(command: Command, tmp_path: Path) -> None:
    """With the encoders that the user names."""
    root, out = write_layout(tmp_path / "set"), tmp_path / "set.safetensors"
    assert command(dataset.app, "pack", root, out, "--encoders", "abc")[0] == 0
    assert open_dataset(out).fingerprint() == open_dataset(root).fingerprint()
    assert open_dataset(out).encoders == "abc"


def test_legacy_text_order_is_for_the_published_layout_only(features: Path) -> None:
    """A feature file's texts are joined already."""
    with pytest.raises(DatasetError, match="legacy text order"):
        open_dataset(features, legacy_text_order=True)
