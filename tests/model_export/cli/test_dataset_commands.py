"""`ahse dataset`: what a user types, what comes back, and how it ends."""

from __future__ import annotations

import inspect
import json
from dataclasses import asdict, replace
from pathlib import Path

from model_export.cli import dataset_commands as dataset
from model_export.data.datasets import open_dataset
from model_export.data.feature_file import read_feature_file, write_feature_file
from model_export.data.invented import invent
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


def test_pack_keeps_the_names_of_clips(command: Command, tmp_path: Path) -> None:
    """Of a feature file; in the published layout clips have numbers."""
    made, out = invent(0, 3), tmp_path / "b.safetensors"
    named = {split: tuple(f"{name}.mp4" for name in names) for split, names in made.clip_names.items()}
    write_feature_file(tmp_path / "a.safetensors", replace(made, clip_names=named))
    assert command(dataset.app, "pack", tmp_path / "a.safetensors", out, "--encoders", "abc")[0] == 0
    found = read_feature_file(out, encoders="abc")
    assert found.clip_names == named
    assert found.data.fingerprint() == made.data.fingerprint()


def test_pack_overwrites_nothing_and_writes_what_opens_again(command: Command, tmp_path: Path) -> None:
    """Exit code 2, with the reason."""
    source, taken = write_layout(tmp_path / "set"), tmp_path / "taken.safetensors"
    taken.write_bytes(b"mine")
    for out, what in ((taken, "exists already"), (tmp_path / "set.st", "ends in .safetensors")):
        code, _, complaints = command(dataset.app, "pack", source, out, "--encoders", "abc")
        assert (code, what in complaints) == (2, True), complaints
    assert taken.read_bytes() == b"mine"
    assert not (tmp_path / "set.st").exists()


def test_the_defaults_of_simulate_are_those_of_the_simulator() -> None:
    """The command repeats them, so that its help needs no numpy."""
    defaults = {name: one.default for name, one in inspect.signature(dataset.simulate).parameters.items()}
    assert asdict(Knobs()).items() <= defaults.items()
