"""Clips keep their features, names and classes while they move between splits."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from model_export.data.feature_file import FeatureSet
from model_export.data.pool import ClassTexts, ClipPool, split_anew
from model_export.data.validation import data_problems
from model_export.errors import DatasetError
from tests.model_export.head.small_world import small_world


@pytest.fixture(scope="module")
def features() -> FeatureSet:
    """The small world with names for its clips."""
    data = replace(small_world(), encoders="abc")
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
    assert (found.data.name, found.data.simulated, found.data.encoders) == ("small world", True, "abc")


def test_older_splits_leave_no_trace(features: FeatureSet) -> None:
    """Split once or twice: the same seed gives the same data."""
    once = split_anew(Path("x"), features, 3, [])
    twice = split_anew(Path("x"), split_anew(Path("x"), features, 8, []), 3, [])
    assert once.data.fingerprint() == twice.data.fingerprint()
    assert once.clip_names == twice.clip_names


def test_clips_without_a_split_and_their_classes_are_out() -> None:
    """Class names and texts are those of the clips that are in, sorted."""
    rows = np.eye(3, dtype=np.float32)
    pool = ClipPool(rows, rows, labels=("b", "c", "a"), names=("0", "1", "2"))
    dealt = pool.deal(
        ["train", None, "val_unseen"], ClassTexts(("c", "a", "b"), rows, rows), name="d", encoders="e"
    )
    assert dealt.data.class_names == ("a", "b")
    np.testing.assert_array_equal(dealt.data.text_visual, rows[[1, 2]])
    assert dealt.data.splits["train"].class_index.tolist() == [1]
    assert dealt.clip_names["val_unseen"] == ("2",)


def test_what_cannot_be_split_is_refused(features: FeatureSet) -> None:
    """With the name of the file."""
    with pytest.raises(DatasetError, match=r"mine\.safetensors"):
        split_anew(Path("mine.safetensors"), features, 0, ["no such class"])
