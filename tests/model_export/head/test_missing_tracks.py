"""Training on clips that lack a track: some of them, or all."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import softmax

from model_export.data.gzsl_data import GzslData, SplitFeatures, SplitName, Track, data_problems
from model_export.head.distances import embedding_distances
from model_export.head.evaluation import evaluate
from model_export.head.methods import make_network
from model_export.head.run_folder import Run
from model_export.head.stage_tensors import StageTensors
from model_export.head.training import calibrate, train
from model_export.head.training_batches import TARGET_TEMPERATURE, StageInputs, Teacher, drop_tracks
from model_export.report.head_card import metrics, model_card, unseen_classes
from model_export.report.measurements import measure
from model_export.report.tables import methods, ranking_table, track_table
from service.arrays import Array
from service.bundle.directory import read_manifest
from tests.model_export.conftest import SMALL
from tests.model_export.head.small_world import small_world


def without(data: GzslData, track: Track, share: float) -> GzslData:
    """The same data, but in each split this share of the clips, from the first on, has no such track."""
    splits: dict[SplitName, SplitFeatures] = {}
    for name, split in data.splits.items():
        lacks = np.arange(len(split)) % 10 < 10 * share
        features = np.where(lacks[:, None], np.float32(0), getattr(split, track))
        splits[name] = replace(split, **{track: features})
    return replace(data, splits=splits)


@pytest.mark.parametrize("changes", [{}, {"adapter_scale": 0.2, "quality_weights": True}])
@pytest.mark.parametrize(("track", "other"), [("visual", "audio"), ("audio", "visual")])
def test_a_head_is_trained_on_the_track_that_there_is(
    track: Track, other: Track, changes: dict[str, Any], tmp_path: Path
) -> None:
    """A data set of sounds or of silent clips is one like any other, and the missing track has no effect."""
    whole = small_world()
    data = without(whole, track, 1.0)
    assert data_problems(data) == []
    run = train(data, SMALL.model_copy(update=changes), tmp_path / "run", n_threads=1)
    found = evaluate(run, data)
    assert found.accuracy.harmonic_mean > 80
    assert run.calibration.visual_share == float(other == "visual")
    assert getattr(run.calibrations, track).raw_weight == 1
    assert getattr(run.calibrations, track).zsl == 0
    assert getattr(run.calibrations, other).zsl > 80
    stage = StageTensors.of(whole, whole.stage(2), torch.device("cpu"))
    both, alone = (
        embedding_distances(run.network, SMALL.standardisation, run.statistics, clips, stage.texts)
        for clips in (stage.eval_unseen, stage.eval_unseen.only(other))
    )
    assert torch.equal(both, alone)


def test_clips_that_have_one_track_count_that_track_alone() -> None:
    """The teacher of a clip without sound is the picture, and its only track is never dropped."""
    data = without(small_world(), "audio", 0.5)
    stage = StageTensors.of(data, data.stage(1), torch.device("cpu"))
    inputs = StageInputs.of(stage, make_network(SMALL, data.n_visual, data.n_audio))
    teacher = Teacher.of(stage)
    silent = ~inputs.has_audio
    assert 0 < silent.sum() < len(silent)
    targets = teacher.targets(inputs.visual, inputs.audio, (inputs.has_visual, inputs.has_audio))

    def centred(rows: Array, mean: Array) -> Array:
        unit = rows / np.linalg.norm(rows, axis=1, keepdims=True) - mean
        found: Array = unit / np.linalg.norm(unit, axis=1, keepdims=True)
        return found

    texts = teacher.text_visual.numpy()
    text_mean = (texts / np.linalg.norm(texts, axis=1, keepdims=True)).mean(0)
    cosines = centred(inputs.visual.numpy(), teacher.visual_mean.numpy()) @ centred(texts, text_mean).T
    np.testing.assert_allclose(
        targets[silent], softmax(cosines[silent.numpy()] / TARGET_TEMPERATURE, axis=1), atol=1e-4
    )

    has = (torch.tensor([True, True, False]), torch.tensor([True, False, True]))
    fills = (torch.full((2,), -1.0), torch.full((2,), -1.0))
    ones = torch.ones(3, 2)
    for chance, lost in ((0.0, [0, 2]), (1.0, [0, 1])):
        rows = drop_tracks(ones, ones, has, fills, torch.full((3,), chance), 1.0)
        dropped = rows[0 if chance == 0 else 1]
        assert (dropped[:, 0] < 0).nonzero().flatten().tolist() == lost
        assert torch.equal(rows[1 if chance == 0 else 0], ones)


def complete(split: SplitFeatures) -> SplitFeatures:
    """The clips of a split that have both tracks."""
    has = split.visual.any(axis=1) & split.audio.any(axis=1)
    return SplitFeatures(split.visual[has], split.audio[has], split.class_index[has])


def test_clips_are_measured_with_a_track_that_they_have(tmp_path: Path, toy_bundle: Path) -> None:
    """Of clips half of which are silent, those with sound measure the ranking by sound and by both tracks."""
    data = without(small_world(), "audio", 0.5)
    stage = StageTensors.of(data, data.stage(1), torch.device("cpu"))
    by_sound = stage.only("audio")
    assert len(by_sound.eval_unseen.class_index) == int(stage.eval_unseen.audio.any(dim=1).sum())
    assert by_sound.eval_unseen.audio.any(dim=1).all()
    assert not by_sound.eval_unseen.visual.any()
    assert len(stage.only("visual").eval_unseen.class_index) == len(stage.eval_unseen.class_index)
    run = train(data, SMALL, tmp_path / "run", n_threads=1)
    measured = measure(run, data)
    assert measured.has("fused", "audio")
    figures = {one.name: one.data for one in metrics(measured)}
    card = model_card(run, read_manifest(toy_bundle), measured)
    heard, shown = (35, 10), (72, 24)  # test clips of seen and of unseen classes
    n_clips = {"both tracks": heard, "picture only": shown, "sound only": heard}
    for tracks, (seen, unseen) in n_clips.items():
        counts = rf"{seen} clips of 9 classes that .* and {unseen} of 3 unseen ones"
        assert re.search(counts, figures[f"HM, {tracks}"])
        assert re.search(rf"\n- {tracks}: .*{counts}\n", card)
    fewer = [
        one.model_copy(update={"classes": one.classes[:-1]}) if one.track == "both" else one
        for one in measured.evaluations
    ]
    assert unseen_classes(replace(measured, evaluations=tuple(fewer))) == ("class 10", "class 11", "class 9")


def test_no_figure_is_of_tracks_that_the_test_clips_lack(tmp_path: Path, toy_bundle: Path) -> None:
    """Of silent clips: neither of sound, nor of both tracks; their rankings are of the clips as they are."""
    silent = without(small_world(), "audio", 1.0)
    run = train(silent, SMALL, tmp_path / "silent", n_threads=1)
    measured = measure(run, silent)
    assert [measured.has("fused", track) for track in ("both", "visual", "audio")] == [False, True, False]
    assert measured.of("fused").track == "any"
    found = methods([measured])
    assert [cell == "not measured" for cell in track_table(found).rows[0][1:]] == [True, False, True] * 2
    assert "have both tracks: these are all test clips" in ranking_table(found).note
    what = {one.name.split(", ", 1)[1] for one in metrics(measured)}
    assert what == {"picture only", "all test clips, untrained late fusion"}
    card = model_card(run, read_manifest(toy_bundle), measured)
    nothing = " | ".join(["not measured"] * 4)
    assert f"| both tracks | {nothing} |\n| sound only | {nothing} |" in card


def test_guarantees_for_both_tracks_are_of_clips_that_have_both(tmp_path: Path) -> None:
    """Silent clips are ranked otherwise, and have limits of their own."""
    data = without(small_world(), "audio", 0.5)
    run = train(data, SMALL, tmp_path / "run", n_threads=1)
    assert run.guarantees is not None
    n_clips = {one.tracks: one.n_clips for one in run.guarantees.limits if one.kind == "seen"}
    n_seen = len(data.splits["val_seen"])
    n_sound = int(data.splits["val_seen"].audio.any(axis=1).sum())
    assert n_clips == {"both": n_sound, "visual": n_seen, "audio": n_sound}


def test_calibrations_for_both_tracks_are_of_clips_that_have_both(small_run: Run) -> None:
    """As if the clips that lack a track, which have calibrations of their own, were not there."""
    data = without(small_world(), "audio", 0.5)
    names: tuple[SplitName, ...] = ("val_seen", "val_unseen")
    both = {name: complete(data.splits[name]) for name in names}
    found, expected = (
        calibrate(small_run.network, SMALL, StageTensors.of(one, one.stage(1), torch.device("cpu")), one)[0]
        for one in (data, replace(data, splits={**data.splits, **both}))
    )
    for ranking in ("embedding", "fused", "raw"):
        assert getattr(found, ranking) == getattr(expected, ranking)


@pytest.mark.parametrize("split", ["val_seen", "val_unseen"])
def test_a_track_that_no_validation_clip_has_is_not_calibrated(small_run: Run, split: SplitName) -> None:
    """Though training clips had it: nothing is measured, and nothing is promised of such clips."""
    data, silent = small_world(), without(small_world(), "audio", 1.0)
    data = replace(data, splits={**data.splits, split: silent.splits[split]})
    stage = StageTensors.of(data, data.stage(1), torch.device("cpu"))
    found, guarantees = calibrate(small_run.network, SMALL, stage, data)
    assert found.audio is not None
    assert (found.audio.raw_weight, found.audio.beta, found.audio.zsl) == (1, 0, 0)
    assert not found.audio.tells_unknown
    assert found.audio.certificate is None
    assert {one.tracks for one in guarantees.limits} == {"visual"}
    assert found.visual is not None
    assert found.visual.zsl > 0


@pytest.mark.parametrize("raw_fusion", [True, False])
@pytest.mark.parametrize(
    ("split", "track"), [("val_unseen", "audio"), ("val_seen", "audio"), ("val_unseen", "visual")]
)
def test_both_tracks_are_not_calibrated_on_clips_of_which_some_have_one(
    small_run: Run, split: SplitName, track: Track, raw_fusion: bool
) -> None:
    """Where all clips of one kind lack a track, beta would tell who has it: nothing is chosen or promised."""
    data, lacking = small_world(), without(small_world(), track, 1.0)
    data = replace(data, splits={**data.splits, split: lacking.splits[split]})
    stage = StageTensors.of(data, data.stage(1), torch.device("cpu"))
    config = SMALL.model_copy(update={"raw_fusion": raw_fusion})
    found, guarantees = calibrate(small_run.network, config, stage, data)
    assert (found.embedding.raw_weight, found.fused.raw_weight, found.raw.raw_weight) == (0, 1, 1)
    for one in (found.embedding, found.fused, found.raw):
        assert (one.beta, one.visual_share, one.harmonic_mean, one.zsl) == (0, 0.5, 0, 0)
        assert one.certificate is None
        assert not one.tells_unknown
    assert "both" not in {one.tracks for one in guarantees.limits}
