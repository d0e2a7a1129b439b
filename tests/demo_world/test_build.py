"""Building the demo bundle: a head beside encoders that are kept."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest

from demo_world.build import bundle_demo, demo_features, rebuild_head
from demo_world.evaluate import evaluate_demo
from demo_world.work_folder import claim
from demo_world.world import ClipCounts, World
from model_export.head.head_config import PRESETS
from model_export.head.training import train
from service.bundle.directory import read_manifest, verify_files
from service.errors import BundleInvalidError
from service.head.statistics import load_ahse_statistics
from service.settings import DEMO_BUNDLE


def quiet(_: str) -> None:
    """Tell nobody."""


@pytest.mark.slow
def test_a_head_is_trained_measured_and_written_beside_kept_encoders(tmp_path: Path) -> None:
    """From clips to a bundle, with one clip of each class and split and a few steps of training."""
    world = World(counts=ClipCounts(train=1, val_seen=1, val_unseen=1, test_seen=1, test_unseen=1))
    work, out = tmp_path / "work", tmp_path / "demo"
    claim(work, 0, world)
    data = demo_features(DEMO_BUNDLE, work / "clips", work / "features.safetensors", 0, quiet, world)
    shipped = read_manifest(DEMO_BUNDLE)
    assert data.encoders == shipped.encoders_digest()
    config = PRESETS["ahse"].model_copy(update={"n_epochs": 1, "n_batches_per_epoch": 4, "seed": 0})
    run = train(data, config, work / "run", n_threads=1)
    measure = partial(evaluate_demo, work=work, seed=0, progress=quiet, world=world)
    command = "python -m demo_world build --keep-encoders --seed 0"
    scores = bundle_demo(DEMO_BUNDLE, run, data, measure, out, command)
    manifest = read_manifest(out)
    verify_files(out, manifest)
    assert {name: manifest.files[name] for name in manifest.encoder_files()} == {
        name: shipped.files[name] for name in shipped.encoder_files()
    }
    assert manifest.encoders_digest() == shipped.encoders_digest()
    assert manifest.provenance.command == command
    assert manifest.provenance.command in (out / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert set(manifest.unseen_classes) == {spec.name for spec in world.candidates(("test_unseen",))}
    assert manifest.head.kind == "ahse"
    assert manifest.head.standardisation == "stored_then_sample"
    stored = load_ahse_statistics(out / manifest.head.statistics, dim=64, visual_dim=128, audio_dim=128)
    np.testing.assert_array_equal(stored.av_mean, run.statistics.av_mean.numpy())
    assert np.ptp(stored.av_mean) > 0
    figures = {metric.name: metric.value for metric in manifest.metrics}
    assert figures["decisions unlike torch's"] == 0
    assert figures["HM, both tracks"] == scores.tracks["both"].harmonic_mean


def test_without_a_bundle_there_are_no_encoders_to_keep(tmp_path: Path) -> None:
    """Said before any clip is recorded."""
    with pytest.raises(BundleInvalidError, match="no such folder"):
        rebuild_head(tmp_path / "work", tmp_path / "none", 0, quiet)
    assert not (tmp_path / "work").exists()
