"""The project's own feature file: what goes in comes out, and nothing else is let in."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from model_export.data.feature_file import KEY, FeatureSet, read_feature_file, write_feature_file
from model_export.data.gzsl_data import GzslData, SplitName
from model_export.errors import DatasetError
from tests.model_export.head.small_world import small_world


def named(data: GzslData) -> FeatureSet:
    """A data set with made-up clip names."""
    return FeatureSet(data, {s: tuple(f"{s} {i}" for i in range(len(c))) for s, c in data.named_splits()})


@pytest.fixture
def data() -> GzslData:
    """The small world, with its encoders named."""
    return replace(small_world(), encoders="bundle abc")


@pytest.fixture
def path(data: GzslData, tmp_path: Path) -> Path:
    """Of a good feature file."""
    write_feature_file(tmp_path / "small.safetensors", named(data))
    return tmp_path / "small.safetensors"


def test_a_feature_file_is_read_as_it_was_written(data: GzslData, path: Path) -> None:
    """Arrays, names, encoders and flags."""
    read = read_feature_file(path)
    assert read.data.fingerprint() == data.fingerprint()
    assert (read.data.name, read.data.simulated, read.data.encoders) == ("small world", True, "bundle abc")
    assert read.clip_names == named(data).clip_names


def test_a_feature_file_of_other_encoders_is_refused(path: Path) -> None:
    """Even where all dims agree."""
    assert read_feature_file(path, encoders="bundle abc").data.encoders == "bundle abc"
    with pytest.raises(DatasetError, match="made by the encoders 'bundle abc', not by 'bundle xyz'"):
        read_feature_file(path, encoders="bundle xyz")


def test_a_feature_file_is_not_written_without_encoders_or_with_a_problem(
    data: GzslData, tmp_path: Path
) -> None:
    """And no partial file stays."""
    with pytest.raises(DatasetError, match="say which encoders"):
        write_feature_file(tmp_path / "x.safetensors", named(replace(data, encoders="")))
    with pytest.raises(DatasetError, match="0 names for the 48 clips of train"):
        write_feature_file(tmp_path / "x.safetensors", FeatureSet(data, {}))
    assert list(tmp_path.iterdir()) == []


def set_row(name: str, row: int, value: float) -> Callable[[dict[str, Any]], None]:
    """Overwrite one row of an array."""

    def act(arrays: dict[str, Any]) -> None:
        arrays[name][row] = value

    return act


def replace_array(name: str, value: Callable[[Any], Any]) -> Callable[[dict[str, Any]], None]:
    """Replace an array."""
    return lambda arrays: arrays.update({name: np.ascontiguousarray(value(arrays[name]))})


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (set_row("train.visual", 3, np.nan), "train.visual, row 3: NaN or infinite"),
        (set_row("test_seen.audio", 0, np.inf), "test_seen.audio, row 0: NaN or infinite"),
        (set_row("text_audio", 4, 0), "text_audio, row 4: class 'class 4' has no text"),
        (set_row("train.class_index", 2, 99), "train.class_index, row 2: no class 99"),
        (set_row("test_unseen.class_index", 0, 1), "test_unseen: class 'class 1' is trained on"),
        (set_row("val_seen.class_index", 0, 7), "val_seen: class 'class 7' is not trained on"),
        (replace_array("train.audio", lambda a: a[:, 1:]), "train.audio: shape (48, 19), expected (48, 20)"),
        (replace_array("train.audio", lambda a: a[1:]), "train.audio: shape (47, 20), expected (48, 20)"),
        (
            replace_array("train.visual", lambda a: a.astype(np.float64)),
            "float64 with 2 axes, expected float32",
        ),
        (replace_array("text_visual", lambda a: a[:-1]), "text_visual: shape (11, 12), expected one row"),
        (lambda arrays: arrays.pop("val_seen.audio"), "val_seen.audio: missing"),
        (lambda arrays: arrays.update(extra=np.ones(2)), "extra: unknown array"),
    ],
)
def test_each_defect_is_named_with_array_and_row(
    path: Path, spoil: Callable[[dict[str, Any]], None], said: str
) -> None:
    """One clear problem each."""
    with path.open("rb") as file:
        metadata = read_metadata(file.read())
    arrays = load_file(path)
    spoil(arrays)
    save_file(arrays, path, metadata)
    with pytest.raises(DatasetError) as caught:
        read_feature_file(path)
    assert any(said in str(problem) for problem in caught.value.problems), str(caught.value)


def read_metadata(raw: bytes) -> dict[str, str]:
    """Metadata of a safetensors file, read as its documentation says."""
    import json

    size = int.from_bytes(raw[:8], "little")
    metadata: dict[str, str] = json.loads(raw[8 : 8 + size])["__metadata__"]
    return metadata


@pytest.mark.parametrize(
    ("metadata", "said"),
    [
        ({}, "its header has no ahse_features"),
        ({KEY: "{}"}, "class_names is missing"),
        ({KEY: '{"format_version": 2}'}, "format_version must be 1"),
    ],
)
def test_a_file_that_describes_itself_wrongly_is_refused(
    path: Path, metadata: dict[str, str], said: str
) -> None:
    """With the field that is wrong."""
    save_file(load_file(path), path, metadata)
    with pytest.raises(DatasetError, match=said):
        read_feature_file(path)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.99])
def test_a_truncated_file_is_refused(path: Path, share: float) -> None:
    """Wherever it was cut."""
    raw = path.read_bytes()
    path.write_bytes(raw[: int(len(raw) * share)])
    with pytest.raises(DatasetError, match="cut short or damaged"):
        read_feature_file(path)


def test_a_missing_file_is_one_clear_error(tmp_path: Path) -> None:
    """Not a traceback."""
    with pytest.raises(DatasetError, match="cannot be read"):
        read_feature_file(tmp_path / "none.safetensors")


def test_all_problems_are_listed_at_once(data: GzslData, tmp_path: Path) -> None:
    """Of several arrays."""
    splits: dict[SplitName, Any] = dict(data.splits)
    visual = splits["train"].visual.copy()
    visual[[1, 5]] = np.nan
    splits["train"] = replace(splits["train"], visual=visual)
    twice = (*data.class_names[:-1], "class 0")
    with pytest.raises(DatasetError, match="3 problems"):
        write_feature_file(tmp_path / "x", named(replace(data, splits=splits, class_names=twice)))
