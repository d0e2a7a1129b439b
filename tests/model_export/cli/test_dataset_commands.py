"""`ahse dataset`: what a user types, what comes back, and how it ends."""

from __future__ import annotations

import inspect
import json
from dataclasses import asdict
from pathlib import Path

from model_export.cli import dataset_commands as dataset
from model_export.data.datasets import open_dataset
from model_export.data.simulate import Knobs
from tests.model_export.cli.conftest import Command
from tests.model_export.data.layout import write_layout


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


def test_the_defaults_of_simulate_are_those_of_the_simulator() -> None:
    """The command repeats them, so that its help needs no numpy."""
    defaults = {name: one.default for name, one in inspect.signature(dataset.simulate).parameters.items()}
    assert asdict(Knobs()).items() <= defaults.items()
