"""`ahse calibrate`: unlabelled clips to the statistics of a bundle without a trained head."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from service.bundle.directory import read_manifest
from service.bundle.manifest import SimilaritySpec
from service.head.similarity import SimilarityHead
from service.registry import load_bundle
from service.runtime.providers import Runtime
from tests.conftest import Ahse
from tests.toy import COLOURS, TONES_HZ, write_clip, write_toy_bundle


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty clips, red more often than green and blue; low, middle and high tones alike."""
    root = tmp_path_factory.mktemp("unlabelled") / "clips"
    root.mkdir()
    colours, tones = [*COLOURS, "red"], list(TONES_HZ)
    for number in range(20):
        write_clip(root / f"{number}.mp4", colours[number % 4], tones[number % 3], seconds=0.6)
    (root / "notes.txt").write_text("no clip")
    return root


@pytest.fixture
def similarity(tmp_path: Path) -> Path:
    """The toy bundle without its head."""
    return write_toy_bundle(tmp_path / "toy", head="similarity")


@pytest.fixture(autouse=True)
def _one_decoder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AHSE_DECODE_WORKERS", "1")


def test_the_bundle_is_replaced_by_one_with_statistics(ahse: Ahse, similarity: Path, clips: Path) -> None:
    """It opens, its encoders are as before, its means are those of the clips, and nothing else is left."""
    before = read_manifest(similarity)
    code, said, _ = ahse("calibrate", similarity, clips)
    assert code == 0
    assert "20 clips; 1 other files passed over" in said
    assert [path.name for path in similarity.parent.iterdir()] == ["toy"]
    bundle = load_bundle(similarity, Runtime(device="cpu"))
    assert bundle.manifest.encoders_digest() == before.encoders_digest()
    assert isinstance(bundle.head, SimilarityHead)
    assert bundle.head.spec.n_clips == 20
    assert "ahse calibrate toy (20 clips)" in bundle.manifest.provenance.command
    statistics = bundle.head.statistics
    assert statistics is not None
    means = statistics.visual_mean
    assert means[0] > means[1] == pytest.approx(means[2], abs=0.02)
    assert np.ptp(statistics.audio_mean) < 0.1


def test_out_leaves_the_bundle_as_it_was(ahse: Ahse, similarity: Path, clips: Path, tmp_path: Path) -> None:
    """And an existing directory is never written over."""
    out = tmp_path / "fitted"
    assert ahse("calibrate", similarity, clips, "--out", out)[0] == 0
    for directory, n_clips in ((similarity, 0), (out, 20)):
        head = read_manifest(directory).head
        assert isinstance(head, SimilaritySpec)
        assert head.n_clips == n_clips
    code, _, complaints = ahse("calibrate", similarity, clips, "--out", out)
    assert code == 2
    assert "exists already" in complaints


def test_a_trained_head_is_refused(ahse: Ahse, toy_bundle: Path, clips: Path) -> None:
    """Its statistics are part of its training."""
    code, _, complaints = ahse("calibrate", toy_bundle, clips)
    assert code == 2
    assert "only similarity heads are calibrated" in complaints


def test_too_few_clips_change_nothing(ahse: Ahse, similarity: Path, clips: Path, tmp_path: Path) -> None:
    """The error says how many there are, and what was done is kept for the next attempt."""
    few = tmp_path / "few"
    few.mkdir()
    shutil.copy2(clips / "0.mp4", few)
    before = read_manifest(similarity)
    code, _, complaints = ahse("calibrate", similarity, few)
    assert code == 2
    assert "1 of its clips have a picture; it takes at least 20" in complaints
    assert read_manifest(similarity) == before
    shutil.copytree(clips, few, dirs_exist_ok=True)
    code, said, _ = ahse("calibrate", similarity, few)
    assert code == 0
    assert "1 of them done before" in said
