"""The simulator writes the published layout, the same for a seed, and says that it is simulated."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from model_export.data.datasets import check_published
from model_export.data.gzsl_data import GzslData
from model_export.data.published_layout import PUBLISHED_COUNTS, read_published
from model_export.data.published_text import FEATURES
from model_export.data.simulate import Knobs, simulate
from model_export.errors import DatasetError
from tests.model_export.data.layout import write_layout

COUNTS = ((3, 10), (3, 4), (1, 5), (4, 6), (1, 7))
SHARED = Path(__file__).resolve().parents[4] / "shared"


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small data set, and a small published table for it."""
    monkeypatch.setitem(PUBLISHED_COUNTS, "ActivityNet-GZSL", COUNTS)
    return write_layout(tmp_path / "source")


def test_simulated_data_has_the_lists_counts_and_texts_of_its_source(source: Path, tmp_path: Path) -> None:
    """Read back by the reader and counted by the checker."""
    made = simulate(source, tmp_path / "out", seed=0)
    data = read_published(made.root)
    assert made.text == "real"
    assert data.simulated
    assert check_published(made.root).problems == ()
    assert [len(clips) for _, clips in data.named_splits()] == [n for _, n in COUNTS]
    assert all(s.as_published for s in check_published(made.root).splits)
    np.testing.assert_array_equal(data.text_visual, read_published(source).text_visual)
    np.testing.assert_array_equal(np.bincount(data.splits["train"].class_index), [4, 3, 3])


def test_simulated_features_have_unit_length_and_depend_on_the_seed_alone(
    source: Path, tmp_path: Path
) -> None:
    """Up to half precision."""
    first, again, other = (
        read_published(simulate(source, tmp_path / name, seed).root)
        for name, seed in (("a", 1), ("b", 1), ("c", 2))
    )
    assert first.fingerprint() == again.fingerprint() != other.fingerprint()
    np.testing.assert_allclose(np.linalg.norm(first.splits["train"].audio, axis=1), 1, atol=2e-3)


def test_a_source_without_text_vectors_gets_random_ones_and_a_notice(source: Path, tmp_path: Path) -> None:
    """As for UCF, whose vectors nobody can redistribute."""
    for file in (source / FEATURES / "text").iterdir():
        file.unlink()
    made = simulate(source, tmp_path / "out", seed=0)
    notice = json.loads((made.root / "SIMULATED.json").read_text())
    assert (made.text, notice["text_vectors"]) == ("random", "random")
    assert notice["knobs"]["text_signal"] == Knobs().text_signal
    data = read_published(made.root)
    assert (data.n_visual, data.n_audio) == (512, 1024)


def spread_of(data: GzslData) -> float:
    """Mean distance of training clips from their class's mean."""
    clips = data.splits["train"]
    means = np.stack([clips.audio[clips.class_index == c].mean(0) for c in range(3)])
    return float(np.linalg.norm(clips.audio - means[clips.class_index], axis=1).mean())


def test_less_spread_brings_clips_of_a_class_together(source: Path, tmp_path: Path) -> None:
    """The knob does what it says."""
    wide = read_published(simulate(source, tmp_path / "wide", 0).root)
    tight = read_published(simulate(source, tmp_path / "tight", 0, replace(Knobs(), spread=0.1)).root)
    assert spread_of(tight) < spread_of(wide) / 2


def test_simulate_writes_the_requested_number_of_clips(source: Path, tmp_path: Path) -> None:
    """So many for each class, a third of it where classes are seen and clips only measured."""
    made = simulate(source, tmp_path / "out", seed=0, n_clips_per_class=6)
    assert list(made.n_clips.values()) == [18, 6, 6, 8, 6]


def test_simulate_refuses_an_existing_folder(source: Path) -> None:
    """Nothing is overwritten."""
    with pytest.raises(DatasetError, match="exists already"):
        simulate(source, source, seed=0)


def test_simulating_from_a_faulty_source_leaves_nothing_behind(source: Path, tmp_path: Path) -> None:
    """Neither the folder nor a part of it."""
    (source / f"{FEATURES}/text/word_embeddings_activitynet_normed.npy").unlink()
    with pytest.raises(DatasetError, match=r"word_embeddings_activitynet_normed\.npy: cannot be read"):
        simulate(source, tmp_path / "out", seed=0)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["source"]


@pytest.mark.slow
@pytest.mark.skipif(not (SHARED / "gzsl").is_dir(), reason="the real class lists are not at hand")
def test_real_ucf_lists_give_a_data_set_of_the_published_size(tmp_path: Path) -> None:
    """UCF's lists differ in upper and lower case, and have no text vectors here."""
    made = simulate(SHARED / "gzsl" / "UCF", tmp_path / "ucf", seed=0)
    found = check_published(made.root)
    assert found.problems == ()
    assert found.simulated
    assert all(s.as_published for s in found.splits)
