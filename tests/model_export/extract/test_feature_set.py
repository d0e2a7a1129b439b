"""Clips, names and splits become one data set that a head can be trained on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from model_export.data.gzsl_data import SplitName
from model_export.data.splits import Part
from model_export.errors import DatasetError
from model_export.extract.extraction import Extracted
from model_export.extract.feature_set import assemble, check_copies, split_clips
from model_export.extract.listing import ListedClip
from service.bundle.directory import read_manifest
from service.encode.features import ClipFeatures
from service.registry import load_bundle
from service.runtime.providers import Runtime

ROOT = Path("clips")


def clip(label: str, number: int, said: Part | SplitName | None = None) -> ListedClip:
    """One that is nowhere."""
    return ListedClip(ROOT / f"{label}{number}", f"{label}/{number}", label, said)


def test_assembled_rows_names_and_texts_belong_together(toy_bundle: Path) -> None:
    """A missing track is a row of zeros; a clip without split is out, and so is a class without clips."""
    rows: list[tuple[str, SplitName | None, tuple[int, ...] | None, tuple[int, ...] | None]] = [
        ("red", "train", (1, 0, 0), (0, 1, 0)),
        ("red", "val_seen", (1, 0, 0), None),
        ("low", "val_unseen", None, (1, 0, 0)),
        ("red", "test_seen", (0, 1, 0), (0, 0, 1)),
        ("blue", "test_unseen", (0, 0, 1), (0, 0, 1)),
        ("green", None, (0, 1, 0), (0, 1, 0)),
    ]

    def array(values: tuple[int, ...] | None) -> np.ndarray | None:
        return None if values is None else np.array(values, np.float32)

    extracted = Extracted(
        clips=tuple(clip(label, number) for number, (label, *_) in enumerate(rows)),
        features=tuple(ClipFeatures(array(visual), array(audio)) for _, _, visual, audio in rows),
        failed=(),
        n_ignored=0,
        n_resumed=0,
    )
    bundle = load_bundle(toy_bundle, Runtime(device="cpu", n_threads=1))
    found = assemble(extracted, [split for _, split, *_ in rows], bundle, "mine")
    data = found.data
    assert data.class_names == ("blue", "low", "red")
    assert data.encoders == read_manifest(toy_bundle).encoders_digest()
    # The toy text encoders give each colour and each tone its axis, and other words nothing.
    np.testing.assert_allclose(data.text_visual, [[0, 0, 1], [0, 0, 0], [1, 0, 0]], atol=1e-6)
    np.testing.assert_allclose(data.text_audio, [[0, 0, 0], [1, 0, 0], [0, 0, 0]], atol=1e-6)
    assert {
        split: (names, data.splits[split].class_index.tolist()) for split, names in found.clip_names.items()
    } == {
        "train": (("red/0",), [2]),
        "val_seen": (("red/1",), [2]),
        "val_unseen": (("low/2",), [1]),
        "test_seen": (("red/3",), [2]),
        "test_unseen": (("blue/4",), [0]),
    }
    assert not data.splits["val_seen"].audio.any()
    assert not data.splits["val_unseen"].visual.any()
    np.testing.assert_array_equal(data.splits["test_seen"].visual, [[0, 1, 0]])


def test_splits_of_the_csv_take_precedence_over_the_seed() -> None:
    """All clips said, none chosen."""
    said: list[SplitName] = ["train", "val_seen", "val_unseen", "test_seen", "test_unseen"]
    clips = [clip(label, i, split) for i, (label, split) in enumerate(zip("aabac", said, strict=True))]
    assert split_clips(ROOT, clips, 0, []) == said


def test_a_clip_that_can_not_be_used_changes_no_other_split() -> None:
    """The class of a lost training clip stays a seen one; if none is left, all of its clips are left out."""
    words: list[tuple[str, Part]] = [
        *(("a", "train"), ("a", "train"), ("a", "val"), ("a", "test")),
        *(("b", "train"), ("b", "val"), ("b", "test")),
        *(("c", "val"), ("c", "test"), ("d", "val"), ("d", "test"), ("e", "test")),
    ]
    listed = [clip(label, i, word) for i, (label, word) in enumerate(words)]
    lost = (listed[0], listed[4], listed[7])  # one of two of a, and all that b and c are trained on
    usable = [one for one in listed if one not in lost]
    splits = dict(zip(usable, split_clips(ROOT, usable, 0, [], listed), strict=True))
    assert [splits[one] for one in usable if one.label == "a"] == ["train", "val_seen", "test_seen"]
    assert {splits[one] for one in usable if one.label in "bc"} == {None}
    assert [splits[one] for one in usable if one.label in "de"] == ["val_unseen", "test_seen", "test_unseen"]
    with pytest.raises(DatasetError, match="val_unseen: no clip is in it"):
        split_clips(ROOT, [one for one in usable if one.label != "d"], 0, [], listed)


def test_copies_in_several_splits_or_classes_are_refused(tmp_path: Path) -> None:
    """By their content, among clips with equal features; one that is left out may be a copy."""
    row = np.ones(3, np.float32)
    contents = {"a/0": b"x", "a/1": b"x", "a/2": b"y", "a/3": b"x", "b/4": b"y", "b/5": b"x"}
    clips = []
    for name, content in contents.items():
        path = tmp_path / name.replace("/", "")
        path.write_bytes(content)
        clips.append(ListedClip(path, name, name[0]))
    found = Extracted(tuple(clips), (ClipFeatures(row, None),) * 5 + (ClipFeatures(None, row),), (), 0, 0)
    splits: list[SplitName | None] = ["train", "train", "train", None, "test_unseen", "test_seen"]
    with pytest.raises(DatasetError) as error:
        check_copies(tmp_path, found, splits)
    assert [str(one) for one in error.value.problems] == [
        "b/4: in test_unseen and of the class 'b', is a copy of a/2, which is in train and of the class 'a'; "
        "keep one of them"
    ]
    check_copies(tmp_path, found, ["train", "train", "train", "train", None, "test_seen"])


def test_incomplete_or_contradictory_splits_are_refused() -> None:
    """Unseen classes said twice over, or nothing said of a split."""
    clips = [clip("a", 0, "train"), clip("b", 1, "test_unseen")]
    with pytest.raises(DatasetError, match="use one of the two"):
        split_clips(ROOT, clips, 0, ["b"])
    with pytest.raises(DatasetError, match="val_unseen: no clip is in it") as error:
        split_clips(ROOT, clips, 0, [])
    assert [problem.file for problem in error.value.problems] == ["val_seen", "val_unseen", "test_seen"]
