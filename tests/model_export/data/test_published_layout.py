"""The published layout: what is read, and what is said about each thing that is wrong."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from model_export.data.datasets import check_published
from model_export.data.pickles import read_npy_dict
from model_export.data.published_layout import identify, read_classes, read_published
from model_export.data.published_text import FEATURES, mixed_up, read_text_names
from model_export.errors import DatasetError
from tests.model_export.data.layout import CLASSES, N_AUDIO, N_VISUAL, vector, write_layout, write_pickle

SHARED = Path(os.environ.get("AHSE_SHARED", Path(__file__).parents[4] / "shared"))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A small data set in the published layout."""
    return write_layout(tmp_path / "set")


def test_clips_and_splits_are_read(root: Path) -> None:
    """Ids are ranks of sorted class names, whatever the order in the files."""
    data = read_published(root)
    assert data.name == "ActivityNet-GZSL"
    assert data.class_names == tuple(CLASSES)
    assert {name: len(split) for name, split in data.named_splits()} == {
        "train": 6,
        "val_seen": 6,
        "val_unseen": 2,
        "test_seen": 8,
        "test_unseen": 2,
    }
    np.testing.assert_array_equal(data.splits["test_unseen"].class_index, [4, 4])
    np.testing.assert_array_equal(data.splits["test_unseen"].visual, [[1] * N_VISUAL, [2] * N_VISUAL])
    assert data.splits["train"].audio.dtype == np.float32


def test_stages_join_what_they_train_on(root: Path) -> None:
    """stage_2_train is the union of the three stage_1 folders."""
    first, second = read_published(root).stage(1), read_published(root).stage(2)
    assert (first.seen.tolist(), first.unseen.tolist()) == ([0, 1, 2], [3])
    assert (second.seen.tolist(), second.unseen.tolist()) == ([0, 1, 2, 3], [4])
    assert len(second.train) == 14


def test_text_is_joined_by_name(root: Path) -> None:
    """Each class gets the vector of its own text."""
    data = read_published(root)
    for i, text in enumerate(CLASSES.values()):
        np.testing.assert_array_equal(data.text_visual[i], vector(N_VISUAL, text))
        np.testing.assert_array_equal(data.text_audio[i], vector(N_AUDIO, text))


def test_legacy_text_order_is_that_of_the_reference_loader(root: Path) -> None:
    """Vectors sorted by text, picked by rank of the class."""
    data = read_published(root, legacy_text_order=True)
    expected = np.stack([vector(N_VISUAL, text) for text in sorted(CLASSES.values())])
    np.testing.assert_array_equal(data.text_visual, expected)
    assert not np.array_equal(data.text_visual, read_published(root).text_visual)


@pytest.mark.parametrize(("prefix", "simulated"), [("sim_", True), ("clip_", False)])
def test_made_up_clips_are_known_by_their_names(tmp_path: Path, prefix: str, simulated: bool) -> None:
    """So that every table can say so."""
    assert read_published(write_layout(tmp_path / "set", prefix)).simulated is simulated


def test_upper_and_lower_case_of_file_names_may_differ(root: Path) -> None:
    """As in UCF's archive."""
    folder = root / FEATURES / "video" / "stage_1_train"
    (folder / "Archery.pkl").rename(folder / "archery.pkl")
    assert len(read_published(root).splits["train"]) == 6


def rewrite(track: str, features: object) -> Callable[[Path], None]:
    """Replace the features of one class's training clips."""
    return lambda root: write_pickle(
        root / FEATURES / track / "stage_1_train" / "Baking.pkl", {"features": features, "video_names": []}
    )


def replace_text(file: str, text: str) -> Callable[[Path], None]:
    """Replace a list file."""

    def act(root: Path) -> None:
        (root / "class-split" / file).write_text(text)

    return act


def remove(file: str) -> Callable[[Path], None]:
    """Remove a file."""
    return lambda root: (root / file).unlink()


def cut(file: str) -> Callable[[Path], None]:
    """Cut a file in half."""

    def act(root: Path) -> None:
        raw = (root / file).read_bytes()
        (root / file).write_bytes(raw[: len(raw) // 2])

    return act


GOOD = np.ones(N_VISUAL, np.float32)
BAKING = f"{FEATURES}/video/stage_1_train/Baking.pkl"


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (rewrite("video", [GOOD, GOOD * np.nan]), f"{BAKING}, row 1: NaN or infinite"),
        (rewrite("video", [GOOD * np.inf, GOOD]), f"{BAKING}, row 0: NaN or infinite"),
        (rewrite("video", [GOOD, np.ones(7)]), f"{BAKING}, row 1: shape (7,), expected (3,)"),
        (rewrite("video", [GOOD, "text"]), f"{BAKING}, row 1: not a numeric array"),
        (rewrite("video", []), f"{BAKING}: holds no clip"),
        (rewrite("video", None), f"{BAKING}: holds no list 'features'"),
        (rewrite("video", [GOOD]), "audio/stage_1_train/Baking.pkl: 2 clips, but the file in video has 1"),
        (remove(BAKING), f"{BAKING}: cannot be read: No such file"),
        (cut(BAKING), f"{BAKING}: not a pickle of plain arrays"),
        (
            replace_text("all_class.txt", "Archery\nBaking\nArchery\n"),
            "row 2: class 'Archery' is listed twice",
        ),
        (
            replace_text("cls_split/stage_1_train.txt", "Archery\nBaking\nCanoeing\nYodelling\n"),
            "stage_1_train.txt, row 3: unknown class 'Yodelling'",
        ),
        (replace_text("cls_split/stage_1_val_seen.txt", "Archery\n"), "does not list the classes of stage_1"),
        (replace_text("cls_split/stage_2_test_unseen.txt", "Diving\n"), "class 'Diving' is trained on"),
        (replace_text("cls_split/stage_2_test_unseen.txt", ""), "stage_2_test_unseen.txt: lists no class"),
        (remove("class-split/cls_split/stage_2_test_seen.txt"), "stage_2_test_seen.txt: cannot be read"),
        (remove("class-split/activitynet_w2v_class_names.csv"), "should hold exactly one of"),
        (
            replace_text("activitynet_w2v_class_names.csv", "original,manual\nArchery,shooting arrows\n"),
            "no vector for class 'Baking'",
        ),
        (
            replace_text("activitynet_w2v_class_names.csv", "a,b\n1,2\n"),
            "needs the columns original and manual",
        ),
        (remove(f"{FEATURES}/text/word_embeddings_activitynet_normed.npy"), "normed.npy: cannot be read"),
    ],
)
def test_each_defect_is_one_clear_problem(root: Path, spoil: Callable[[Path], None], said: str) -> None:
    """With file and row."""
    spoil(root)
    with pytest.raises(DatasetError) as caught:
        read_published(root)
    assert any(said in str(problem) for problem in caught.value.problems), str(caught.value)


def test_clips_without_any_track_are_one_problem_each(root: Path) -> None:
    """As in a feature file; with file and row."""
    rewrite("video", [GOOD, GOOD * 0])(root)
    rewrite("audio", [np.zeros(N_AUDIO), np.zeros(N_AUDIO)])(root)
    with pytest.raises(DatasetError) as caught:
        read_published(root)
    said = "a clip with neither a visual nor an audio track: all zero"
    assert [str(problem) for problem in caught.value.problems] == [f"{BAKING}, row 1: {said}"]
    assert check_published(root).problems == (f"{BAKING}, row 1: {said}",)


def test_all_problems_are_listed_at_once(root: Path) -> None:
    """Not only the first."""
    rewrite("video", [GOOD, GOOD * np.nan])(root)
    rewrite("audio", [np.ones(N_AUDIO), np.ones(1)])(root)
    remove(f"{FEATURES}/audio/stage_2_test_unseen/Eating.pkl")(root)
    with pytest.raises(DatasetError, match="3 problems"):
        read_published(root)


shared_data = pytest.mark.skipif(
    not (SHARED / "gzsl").is_dir(), reason="the real class lists are not at hand"
)


@shared_data
@pytest.mark.parametrize(
    ("folder", "n_classes", "n_wrong"), [("ActivityNet", 200, 8), ("VGGSound", 309, 205)]
)
def test_the_reference_loader_mixes_up_these_many_real_classes(
    folder: str, n_classes: int, n_wrong: int
) -> None:
    """On the real class lists and text vectors."""
    root = SHARED / "gzsl" / folder
    published = identify(root)
    shown = f"{FEATURES}/text/word_embeddings_{published.key}_normed.npy"
    classes = read_classes(root, [])
    assert len(classes) == n_classes
    names = read_text_names(root, published.names_csv, [])
    assert len(mixed_up(read_npy_dict(root / shown, shown), names, classes)) == n_wrong


@shared_data
@pytest.mark.slow
def test_simulated_activitynet_is_read_whole(tmp_path: Path) -> None:
    """Full size in classes, few clips; known as simulated."""
    script, source = SHARED / "simulated_activitynet.py", SHARED / "gzsl" / "ActivityNet"
    command = [sys.executable, str(script), str(source), str(tmp_path / "sim"), "--clips", "2"]
    subprocess.run(command, check=True, capture_output=True)  # noqa: S603 - our own script
    data = read_published(tmp_path / "sim")
    assert data.simulated
    assert (data.n_visual, data.n_audio, len(data.class_names)) == (512, 1024, 200)
    assert [len(s.classes()) for _, s in data.named_splits()] == [99, 99, 51, 150, 48]
