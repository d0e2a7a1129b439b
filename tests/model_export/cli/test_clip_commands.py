"""`ahse extract`, `ahse calibrate` and `ahse dataset split`: a user's clips to features and statistics."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model_export.data.feature_file import read_feature_file
from model_export.data.gzsl_data import SPLIT_NAMES
from service.bundle.directory import read_manifest
from service.bundle.head_specs import SimilaritySpec
from service.decode import DecodePool
from service.head.similarity import SimilarityHead
from service.media import Clip, DecodeSpec
from service.registry import load_bundle
from service.runtime.providers import Runtime
from tests.conftest import Ahse
from tests.toy import COLOURS, TONES_HZ, write_clip, write_toy_bundle


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three clips of each of the nine toy classes."""
    root = tmp_path_factory.mktemp("own") / "toy clips"
    for colour in COLOURS:
        for tone in TONES_HZ:
            folder = root / f"{colour} with a {tone} tone"
            folder.mkdir(parents=True)
            for number in range(3):
                write_clip(folder / f"{number}.mp4", colour, tone, seconds=0.5 + 0.1 * number)
    return root


@pytest.fixture
def own(clips: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(clips, tmp_path / "toy clips"))


@pytest.fixture(autouse=True)
def _one_decoder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AHSE_DECODE_WORKERS", "1")


def test_folders_become_a_feature_file(ahse: Ahse, own: Path, toy_bundle: Path, tmp_path: Path) -> None:
    """It names the encoders; what failed, was passed over or was left out is said; no journal stays."""
    cut = (own / "red with a low tone" / "0.mp4").read_bytes()[:500]
    (own / "blue with a high tone" / "cut.mp4").write_bytes(cut)
    (own / "blue with a high tone" / "notes.txt").write_text("not a clip, and not called so")
    (own / "lonely").mkdir()
    shutil.copy(own / "red with a low tone" / "0.mp4", own / "lonely" / "0.mp4")
    out = tmp_path / "new" / "mine.safetensors"
    code, said, complaints = ahse("extract", own, "--bundle", toy_bundle, "--out", out)
    assert code == 0
    assert "28 clips; 1 failed, listed above; 1 other files skipped" in said
    assert "cut.mp4: " in complaints
    assert "[truncated_media]" in complaints or "[not_media]" in complaints
    assert "left out, with fewer than 3 clips that can be used: lonely" in complaints
    found = read_feature_file(out, encoders=read_manifest(toy_bundle).encoders_digest())
    assert found.data.name == "toy clips"
    assert len(found.data.class_names) == 9
    assert sum(len(found.data.splits[split]) for split in SPLIT_NAMES) == 27
    assert [path.name for path in out.parent.iterdir()] == ["mine.safetensors"]


def test_extract_follows_the_splits_of_a_csv(
    ahse: Ahse, clips: Path, toy_bundle: Path, tmp_path: Path
) -> None:
    """Three words decide which classes are unseen."""
    words = {"red": ("train", "val", "test"), "green": ("val", "val", "test"), "blue": ("test",) * 3}
    rows = [
        f"{clips}/{colour} with a {tone} tone/{number}.mp4,{colour} with a {tone} tone,{word}"
        for colour in COLOURS
        for tone in TONES_HZ
        for number, word in enumerate(words[colour])
    ]
    (tmp_path / "list.csv").write_text("\n".join(["path,label,split", *rows]))
    out = tmp_path / "mine.safetensors"
    assert ahse("extract", tmp_path / "list.csv", "--bundle", toy_bundle, "--out", out)[0] == 0
    data = read_feature_file(out).data
    sizes = {split: len(clips) for split, clips in data.named_splits()}
    assert sizes == {"train": 3, "val_seen": 3, "val_unseen": 6, "test_seen": 6, "test_unseen": 9}
    unseen = {data.class_names[i] for i in data.splits["test_unseen"].classes()}
    assert unseen == {f"blue with a {tone} tone" for tone in TONES_HZ}


def test_an_interrupted_extract_command_continues(
    ahse: Ahse, clips: Path, toy_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is written but the journal; the second attempt does the rest, to the same bytes."""
    decode, n_decoded = DecodePool.decode, 0

    def stopping(pool: DecodePool, path: Path, spec: DecodeSpec, *more: Any) -> Clip:
        nonlocal n_decoded
        n_decoded += 1
        if n_decoded == 11:
            raise KeyboardInterrupt
        return decode(pool, path, spec, *more)

    words = ("extract", clips, "--bundle", toy_bundle, "--out")
    monkeypatch.setattr(DecodePool, "decode", stopping)
    code, _, complaints = ahse(*words, tmp_path / "a.safetensors")
    assert (code, complaints) == (130, "ahse: stopped; the same command continues from here\n")
    assert not (tmp_path / "a.safetensors").exists()
    n_before = n_decoded
    code, said, _ = ahse(*words, tmp_path / "a.safetensors")
    assert code == 0
    assert "27 clips; 10 of them done before" in said
    assert n_decoded - n_before == 17
    ahse(*words, tmp_path / "b.safetensors")
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


def test_unseen_classes_can_be_given_at_once_or_later(
    ahse: Ahse, clips: Path, toy_bundle: Path, tmp_path: Path
) -> None:
    """By name or in a file; splitting a feature file gives what extracting with the same choice gives."""
    (tmp_path / "unseen.txt").write_text("red with a low tone\n\nblue with a high tone\n")
    words = ("extract", clips, "--bundle", toy_bundle, "--out")
    assert ahse(*words, tmp_path / "a.safetensors", "--unseen", tmp_path / "unseen.txt")[0] == 0
    assert ahse(*words, tmp_path / "b.safetensors", "--seed", 5)[0] == 0
    unseen = ("--unseen", "blue with a high tone", "--unseen", "red with a low  tone")
    code, said, _ = ahse("dataset", "split", tmp_path / "b.safetensors", tmp_path / "c.safetensors", *unseen)
    assert code == 0
    assert "test_unseen: blue with a high tone, red with a low tone" in said
    a, c = (read_feature_file(tmp_path / f"{name}.safetensors") for name in "ac")
    assert a.data.fingerprint() == c.data.fingerprint()
    assert a.clip_names == c.clip_names


def test_clips_that_cannot_be_extracted_are_reported_and_nothing_is_written(
    ahse: Ahse, own: Path, toy_bundle: Path, tmp_path: Path
) -> None:
    """Exit code 2, the reason, no traceback, no feature file."""
    out, other = tmp_path / "out.safetensors", tmp_path / "few"
    (tmp_path / "there.safetensors").touch()
    shutil.copytree(own / "red with a low tone", other / "a")
    cases = [
        ((own, "--bundle", toy_bundle, "--out", tmp_path / "out.npz"), "ends in .safetensors"),
        ((own, "--bundle", toy_bundle, "--out", tmp_path / "there.safetensors"), "exists already"),
        ((tmp_path / "none", "--bundle", toy_bundle, "--out", out), "no such file or folder"),
        (
            (other, "--bundle", toy_bundle, "--out", out),
            "1 classes have 3 clips or more; at least 6 are needed",
        ),
        (
            (own, "--bundle", toy_bundle, "--out", out, "--unseen", "piano"),
            "'piano' is no class of these clips",
        ),
        ((own, "--bundle", tmp_path, "--out", out), "there is no manifest.json"),
        ((own, "--bundle", toy_bundle, "--out", out, "--device", "tpu"), "AHSE_DEVICE"),
    ]
    for words, what in cases:
        code, _, complaints = ahse("extract", *words)
        assert (code, what in complaints) == (2, True), complaints
        assert "Traceback" not in complaints
    for clip in own.rglob("*.mp4"):
        os.truncate(clip, 100)
    code, _, complaints = ahse("extract", own, "--bundle", toy_bundle, "--out", out)
    assert code == 2
    assert "not one of its clips can be used" in complaints
    assert len(complaints.splitlines()) == 27 + 2
    assert not out.exists()


@pytest.fixture(scope="module")
def unlabelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
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


def test_calibrate_replaces_the_bundle_by_one_with_statistics(
    ahse: Ahse, similarity: Path, unlabelled: Path
) -> None:
    """It opens, its encoders are as before, its means are those of the clips, and nothing else is left."""
    before = read_manifest(similarity)
    code, said, _ = ahse("calibrate", similarity, unlabelled)
    assert code == 0
    assert "20 clips; 1 other files skipped" in said
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


def test_calibrate_replaces_the_bundle_that_it_runs_in(
    ahse: Ahse, similarity: Path, unlabelled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A directory can't be renamed as `.`; nothing is left beside it."""
    monkeypatch.chdir(similarity)
    code, _, complaints = ahse("calibrate", ".", unlabelled)
    monkeypatch.chdir(unlabelled)  # the directory that it ran in is gone
    assert (code, complaints) == (0, "")
    assert [path.name for path in similarity.parent.iterdir()] == ["toy"]
    head = read_manifest(similarity).head
    assert isinstance(head, SimilaritySpec)
    assert head.n_clips == 20


def test_calibrate_with_out_leaves_the_bundle_as_it_was(
    ahse: Ahse, similarity: Path, unlabelled: Path, tmp_path: Path
) -> None:
    """And an existing directory is never written over."""
    out = tmp_path / "fitted"
    assert ahse("calibrate", similarity, unlabelled, "--out", out)[0] == 0
    for directory, n_clips in ((similarity, 0), (out, 20)):
        head = read_manifest(directory).head
        assert isinstance(head, SimilaritySpec)
        assert head.n_clips == n_clips
    code, _, complaints = ahse("calibrate", similarity, unlabelled, "--out", out)
    assert code == 2
    assert "exists already" in complaints


def test_calibrate_refuses_a_trained_head(ahse: Ahse, toy_bundle: Path, unlabelled: Path) -> None:
    """Its statistics are part of its training."""
    code, _, complaints = ahse("calibrate", toy_bundle, unlabelled)
    assert code == 2
    assert "only similarity heads are calibrated" in complaints


def test_calibrate_with_too_few_clips_changes_nothing(
    ahse: Ahse, similarity: Path, unlabelled: Path, tmp_path: Path
) -> None:
    """The error says how many there are, and what was done is kept for the next attempt."""
    few = tmp_path / "few"
    few.mkdir()
    shutil.copy2(unlabelled / "0.mp4", few)
    before = read_manifest(similarity)
    code, _, complaints = ahse("calibrate", similarity, few)
    assert code == 2
    assert "1 of its clips have a visual track; at least 20 are needed" in complaints
    assert read_manifest(similarity) == before
    shutil.copytree(unlabelled, few, dirs_exist_ok=True)
    code, said, _ = ahse("calibrate", similarity, few)
    assert code == 0
    assert "1 of them done before" in said
