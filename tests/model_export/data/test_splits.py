"""Splits keep the protocol whatever the classes are, and say what they cannot split."""

from collections import defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_export.data.features import SPLIT_NAMES
from model_export.data.splits import (
    MIN_CLASSES,
    choose_splits,
    choosing_problems,
    infer_splits,
    large_enough,
    missing_splits,
)


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


def test_twelve_classes_of_fifteen_clips() -> None:
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
def test_what_cannot_be_split_says_what_is_needed(
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
