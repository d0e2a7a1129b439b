"""The commands of `ahse` that train: what a user types, what comes back, and how it ends."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from model_export.cli.train_commands import Preset, evaluate_app, report_app, train_app
from model_export.data.feature_file import FeatureSet, read_feature_file, write_feature_file
from model_export.head.head_config import PRESETS
from model_export.head.run_folder import Run
from tests.model_export.cli.conftest import Command
from tests.model_export.head.small_world import small_world

SMALL = ("--set", "n_epochs=2", "--set", "n_batches_per_epoch=3", "--set", "batch_size=8", "--threads", "1")


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
    for preset in ("ahse", "clip_clap"):
        for seed in (0, 1):
            runs.append(tmp_path / f"{preset}_{seed}")
            words = (features, "--out", runs[-1], "--preset", preset, "--seed", seed, *SMALL)
            code, out, _ = command(train_app, *words)
            assert (code, "SIMULATED small world" in out) == (0, True)
    assert Run.load(runs[1]).config.head.seed == 1
    assert Run.load(runs[1]).config.head.n_epochs == 2

    code, out, _ = command(evaluate_app, *runs, features)
    assert code == 0
    assert "Test clips of SIMULATED small world" in out
    code, out, _ = command(evaluate_app, *runs, features, "--json")
    names = [method["name"] for method in json.loads(out)[0]["methods"]]
    assert names == ["CLIP-CLAP", "AHSE + text geometry + distillation + track dropout"]

    code, out, _ = command(report_app, *runs, "--out", tmp_path / "report")
    assert code == 0
    assert (tmp_path / "report" / "report.html").is_file()


def test_train_says_no_figure_that_was_not_measured(command: Command, features: Path, tmp_path: Path) -> None:
    """Clips of unseen validation classes without sound: nothing of clips with both tracks."""
    found = read_feature_file(features)
    clips = found.data.splits["val_unseen"]
    silent = replace(clips, audio=np.zeros_like(clips.audio))
    data = replace(found.data, splits={**found.data.splits, "val_unseen": silent})
    write_feature_file(tmp_path / "some.safetensors", replace(found, data=data))
    code, out, _ = command(train_app, tmp_path / "some.safetensors", "--out", tmp_path / "run", *SMALL)
    assert code == 0
    assert "validation lacks clips with both tracks" in out
    assert "HM" not in out


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (("lr=abc",), "--set: lr must be a number"),
        (("speed=9",), "--set: speed is not a known field"),
        (("lr",), "--set: lr must be a number"),
        (("dropout=1.5",), "--set: dropout must be less than 1"),
        (("lr=1e-3", " seed =7"), "--set: the seed has an option of its own, --seed"),
    ],
)
def test_a_wrong_setting_is_one_line_and_exit_code_2(
    command: Command, features: Path, tmp_path: Path, changes: tuple[str, ...], said: str
) -> None:
    """And no run folder is made."""
    words = [word for change in changes for word in ("--set", change)]
    code, _, err = command(train_app, features, "--out", tmp_path / "run", *words)
    assert code == 2
    assert said in err
    assert len(err.splitlines()) == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("device", "said"),
    [
        ("gpu", "--device gpu: give cpu or cuda"),
        ("cuda", "device cuda was asked for, but torch could not start it on this machine"),
    ],
)
def test_a_device_that_can_not_be_used_is_one_line_and_exit_code_2(
    command: Command, features: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device: str, said: str
) -> None:
    """And no run folder is made."""
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    code, _, err = command(train_app, features, "--out", tmp_path / "run", "--device", device, *SMALL)
    assert (code, said in err, len(err.splitlines())) == (2, True, 1)
    assert not (tmp_path / "run").exists()


def test_train_says_where_both_tracks_could_not_be_measured(
    command: Command, features: Path, tmp_path: Path
) -> None:
    """Without sound in one part of validation."""
    kept = read_feature_file(features)
    unseen = kept.data.splits["val_unseen"]
    silent = {**kept.data.splits, "val_unseen": replace(unseen, audio=0 * unseen.audio)}
    path = tmp_path / "silent.safetensors"
    write_feature_file(path, replace(kept, data=replace(kept.data, splits=silent)))
    code, out, _ = command(train_app, path, "--out", tmp_path / "run", *SMALL)
    assert code == 0
    assert "was not measured: validation lacks clips with both tracks" in out


def cut(path: Path) -> Path:
    """Half of a file."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


def test_data_that_cannot_be_read_ends_in_one_clear_error(
    command: Command, features: Path, tmp_path: Path
) -> None:
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
        code, _, err = command(train_app, path, "--out", tmp_path / "run")
        assert (code, what in err) == (2, True), err
        assert "Traceback" not in err
    assert not (tmp_path / "run").exists()


def test_evaluate_needs_the_data_that_the_run_was_trained_on(
    command: Command, small_run: Run, features: Path, tmp_path: Path
) -> None:
    """Other data is refused; a run without data is a usage error."""
    other, names = replace(small_world(seed=3), encoders="bundle xyz"), read_feature_file(features).clip_names
    write_feature_file(tmp_path / "other.safetensors", FeatureSet(other, names))
    code, _, err = command(evaluate_app, small_run.path, tmp_path / "other.safetensors")
    assert code == 2
    assert "was trained on other data" in err
    assert "bundle xyz" in err
    assert command(evaluate_app, small_run.path)[0] == 2


def test_report_needs_evaluated_runs(command: Command, tmp_path: Path) -> None:
    """And writes nothing otherwise."""
    code, _, err = command(report_app, tmp_path, "--out", tmp_path / "report")
    assert code == 2
    assert "was not evaluated" in err
    assert not (tmp_path / "report").exists()


def test_every_preset_can_be_named() -> None:
    """The command line lists them by itself, since help should not wait for pydantic."""
    assert {preset.value for preset in Preset} == set(PRESETS)
