"""Splits follow the protocol whatever the classes are, and clips keep their features when they move."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_export.data.feature_file import FeatureSet
from model_export.data.gzsl_data import SPLIT_NAMES, data_problems
from model_export.data.splits import (
    MIN_CLASSES,
    ClassTexts,
    ClipPool,
    choose_splits,
    choosing_problems,
    infer_splits,
    large_enough,
    missing_splits,
    split_anew,
)
from model_export.errors import DatasetError
from tests.model_export.head.small_world import small_world


def labels_of(*counts: int) -> list[str]:
    """Labels of clips, so many of each class: "class 0", "class 1" ..."""
    return [f"class {i}" for i, n in enumerate(counts) for _ in range(n)]


def classes_by_split(labels: list[str], splits: list[str | None]) -> dict[str | None, set[str]]:
    """The classes that each split has clips of."""
    found = defaultdict(set)
    for label, split in zip(labels, splits, strict=True):
        found[split].add(label)
    return found


@given(st.lists(st.integers(3, 30), min_size=MIN_CLASSES, max_size=40), st.integers(0, 5))
def test_chosen_splits_keep_the_protocol(counts: list[int], seed: int) -> None:
    """All five are there; unseen classes are trained on nowhere, seen ones everywhere; seeds repeat."""
    labels = labels_of(*counts)
    assert choosing_problems(labels) == []
    splits = choose_splits(labels, seed)
    found = classes_by_split(labels, list(splits))
    assert missing_splits(splits) == []
    assert found["val_seen"] == found["train"]
    assert found["test_seen"] == found["train"] | found["val_unseen"]
    assert not found["train"] & found["val_unseen"]
    assert not found["test_unseen"] & found["test_seen"]
    assert min(len(found[split]) for split in SPLIT_NAMES) >= 2
    assert splits == choose_splits(labels, seed)


def test_chosen_splits_of_twelve_classes_of_fifteen_clips() -> None:
    """A small user's data: 8 classes trained on, 2 and 2 unseen; 11, 2 and 2 clips of each seen class."""
    labels = labels_of(*[15] * 12)
    splits = choose_splits(labels, 0)
    assert {split: splits.count(split) for split in SPLIT_NAMES} == {
        "train": 8 * 11,
        "val_seen": 8 * 2,
        "val_unseen": 2 * 13,
        "test_seen": 8 * 2 + 2 * 2,
        "test_unseen": 2 * 15,
    }
    assert splits != choose_splits(labels, 1)


def test_unseen_classes_can_be_given_and_small_ones_are_left_out() -> None:
    """The given ones, and no others, are new in the test."""
    labels = labels_of(5, 5, 5, 5, 5, 2)
    splits = choose_splits(labels, 0, ["class 3"])
    found = classes_by_split(labels, list(splits))
    assert found["test_unseen"] == {"class 3"}
    assert found[None] == {"class 5"}
    assert "class 5" not in large_enough(labels)


@pytest.mark.parametrize(
    ("counts", "unseen", "said"),
    [
        ((5,) * 5, (), "5 classes have 3 clips or more; at least 6 are needed"),
        ((5,) * 5 + (2,), (), "5 classes have 3 clips or more; at least 6 are needed"),
        ((5,) * 4, ("class 0",), "3 classes have 3 clips or more beside the unseen ones; at least 4"),
        ((5,) * 6, ("piano",), "'piano' is no class of these clips"),
    ],
)
def test_too_few_classes_or_unknown_ones_are_reported(
    counts: tuple[int, ...], unseen: tuple[str, ...], said: str
) -> None:
    """Too few classes, or unknown ones."""
    (problem,) = choosing_problems(labels_of(*counts), unseen)
    assert said in str(problem)


def test_unseen_classes_are_inferred_from_three_words() -> None:
    """A class is unseen where no earlier part has a clip of it; the five names stand as they are."""
    said = [
        ("a", "train", "train"),
        ("a", "val", "val_seen"),
        ("a", "test", "test_seen"),
        ("b", "val", "val_unseen"),
        ("b", "test", "test_seen"),
        ("c", "test", "test_unseen"),
        ("d", "test_unseen", "test_unseen"),
    ]
    labels, words, expected = zip(*said, strict=True)
    assert infer_splits(labels, words) == list(expected)
    assert [p.file for p in missing_splits(infer_splits(labels[:2], words[:2]))] == [
        "val_unseen",
        "test_seen",
        "test_unseen",
    ]


@pytest.fixture(scope="module")
def features() -> FeatureSet:
    """The small world with names for its clips."""
    data = replace(small_world(), encoders="abc", text_order="legacy", law="noise 0.2")
    return FeatureSet(data, {s: tuple(f"{s}/{i:03d}" for i in range(len(c))) for s, c in data.named_splits()})


def clips_of(features: FeatureSet) -> dict[str, tuple[str, bytes, bytes]]:
    """By the clip's name its class and features."""
    data = features.data
    return {
        name: (data.class_names[c], visual.tobytes(), audio.tobytes())
        for split, clips in data.named_splits()
        for name, visual, audio, c in zip(
            features.clip_names[split], clips.visual, clips.audio, clips.class_index.tolist(), strict=True
        )
    }


def test_splitting_anew_moves_clips_and_changes_nothing_else(features: FeatureSet) -> None:
    """Each clip has the class, the features and the class text that it had; what was said stays said."""
    found = split_anew(Path("x"), features, 3, ["class 0", "class 1"])
    assert clips_of(found) == clips_of(features)
    assert data_problems(found.data) == []
    test = found.data.splits["test_unseen"].classes()
    assert {found.data.class_names[c] for c in test} == {"class 0", "class 1"}
    for name, text in zip(found.data.class_names, found.data.text_audio, strict=True):
        np.testing.assert_array_equal(text, features.data.text_audio[features.data.class_names.index(name)])
    dealt = ("class_names", "text_visual", "text_audio", "splits")
    for field in fields(found.data):
        if field.name not in dealt:
            assert getattr(found.data, field.name) == getattr(features.data, field.name)


def test_new_splits_do_not_depend_on_former_ones(features: FeatureSet) -> None:
    """Split once or twice: the same seed gives the same data."""
    once = split_anew(Path("x"), features, 3, [])
    twice = split_anew(Path("x"), split_anew(Path("x"), features, 8, []), 3, [])
    assert once.data.fingerprint() == twice.data.fingerprint()
    assert once.clip_names == twice.clip_names


def test_clips_without_a_split_and_their_classes_are_left_out() -> None:
    """Class names and texts are those of the clips that are in, sorted."""
    rows = np.eye(3, dtype=np.float32)
    pool = ClipPool(rows, rows, labels=("b", "c", "a"), names=("0", "1", "2"))
    dealt = pool.assign(
        ["train", None, "val_unseen"], ClassTexts(("c", "a", "b"), rows, rows), name="d", encoders="e"
    )
    assert dealt.data.class_names == ("a", "b")
    np.testing.assert_array_equal(dealt.data.text_visual, rows[[1, 2]])
    assert dealt.data.splits["train"].class_index.tolist() == [1]
    assert dealt.clip_names["val_unseen"] == ("2",)


def test_splitting_anew_refuses_unknown_classes(features: FeatureSet) -> None:
    """With the name of the file."""
    with pytest.raises(DatasetError, match=r"mine\.safetensors"):
        split_anew(Path("mine.safetensors"), features, 0, ["no such class"])
