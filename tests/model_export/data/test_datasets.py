"""Data sets of either form are opened; the checker counts them and lists all faults at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from model_export.data.datasets import check_features, check_published, open_dataset
from model_export.data.gzsl_data import SPLIT_NAMES
from model_export.data.published_layout import PUBLISHED_COUNTS, read_published
from model_export.data.published_text import FEATURES
from model_export.errors import DatasetError
from tests.model_export.data.layout import MEMBERS, N_CLIPS, write_layout

SHARED = Path(__file__).resolve().parents[4] / "shared"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A small data set without defects."""
    return write_layout(tmp_path / "set")


def test_classes_and_clips_are_counted_against_the_published_table(root: Path) -> None:
    """Five small splits, none of the published size."""
    found = check_published(root)
    assert (found.name, found.simulated, found.problems) == ("ActivityNet-GZSL", False, ())
    counted = [(s.n_classes, s.n_clips) for s in found.splits]
    assert counted == [(len(MEMBERS[split]), N_CLIPS * len(MEMBERS[split])) for split in SPLIT_NAMES]
    assert [(s.published_classes, s.published_clips) for s in found.splits] == list(
        PUBLISHED_COUNTS["ActivityNet-GZSL"]
    )
    assert not any(s.as_published for s in found.splits)


def test_classes_that_the_reference_loader_mixes_up_are_named(root: Path) -> None:
    """Those whose text vector changes with the reference loader's order."""
    data, legacy = read_published(root), read_published(root, legacy_text_order=True)
    differs = (data.text_visual != legacy.text_visual).any(axis=1)
    named = tuple(name for name, wrong in zip(data.class_names, differs, strict=True) if wrong)
    assert check_published(root).mixed_up == named
    assert len(named) > 0


def test_every_problem_is_listed_and_a_missing_folder_once(root: Path) -> None:
    """Lists, text and clips, all in one go; counting goes on."""
    (root / f"{FEATURES}/text/word_embeddings_activitynet_normed.npy").unlink()
    (root / f"{FEATURES}/video/stage_2_test_seen").rename(root / "elsewhere")
    (root / "class-split/cls_split/stage_2_test_unseen.txt").write_text("Eating\nYodelling\n")
    found = check_published(root)
    assert len(found.problems) == 3
    assert found.mixed_up is None
    for part in (
        "word_embeddings_activitynet",
        "video/stage_2_test_seen: no such folder",
        "row 1: unknown class",
    ):
        assert any(part in problem for problem in found.problems), found.problems


def test_a_data_set_without_clips_is_neither_simulated_nor_not(root: Path) -> None:
    """As the lists and texts alone are."""
    for track in ("video", "audio"):
        (root / FEATURES / track).rename(root / track)
    found = check_published(root)
    assert found.simulated is None
    assert len(found.problems) == 2 * len(SPLIT_NAMES)


def test_a_folder_that_is_no_published_set_is_one_error(tmp_path: Path) -> None:
    """It cannot be told which table to compare with."""
    with pytest.raises(DatasetError, match="should hold exactly one of"):
        check_published(tmp_path)


def test_features_that_could_be_read_are_counted(root: Path) -> None:
    """Whatever file they came from."""
    assert check_features(read_published(root)).splits == check_published(root).splits


@pytest.mark.skipif(not (SHARED / "gzsl").is_dir(), reason="the real class lists are not at hand")
@pytest.mark.parametrize(
    ("folder", "n_classes", "n_wrong"),
    [("ActivityNet", (99, 99, 51, 150, 48), 8), ("VGGSound", (138, 138, 69, 207, 64), 205)],
)
def test_real_lists_are_counted_and_mixed_up_classes_found(
    folder: str, n_classes: tuple[int, ...], n_wrong: int
) -> None:
    """Real class lists and text vectors without clips."""
    found = check_published(SHARED / "gzsl" / folder)
    assert tuple(s.n_classes for s in found.splits) == n_classes
    assert all(s.n_classes == s.published_classes for s in found.splits)
    assert len(found.mixed_up or ()) == n_wrong
    assert all("no such folder" in problem for problem in found.problems)


def test_legacy_text_order_is_for_the_published_layout_only(tmp_path: Path) -> None:
    """The texts of a feature file are joined already."""
    with pytest.raises(DatasetError, match="legacy text order"):
        open_dataset(tmp_path / "features.safetensors", legacy_text_order=True)
