"""The two-stage protocol: reproducible, resumable, and independent of the test clips."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from model_export.data.gzsl_data import GzslData, SplitFeatures
from model_export.errors import RunError
from model_export.head import calibration, run_folder, training
from model_export.head.cost import Cost
from model_export.head.distances import rank_embedding, rank_raw
from model_export.head.head_config import HeadConfig
from model_export.head.methods.clip_clap import ClipClap
from model_export.head.run_folder import Run
from model_export.head.stage_checkpoint import save_checkpoint
from model_export.head.stage_tensors import Clips, StageTensors
from model_export.head.training import train
from tests.model_export.conftest import SMALL
from tests.model_export.head.small_world import small_world


class KilledError(Exception):
    """Stands for the process being killed."""


def contents(path: Path) -> dict[str, Any]:
    """What a run folder says, wall-clock times left out."""
    lines = (path / "metrics.jsonl").read_text().splitlines()
    history = [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in lines]
    binary = {p.name: p.read_bytes() for p in path.glob("*.safetensors")}
    return {"history": history, "calibration": (path / "calibration.json").read_text(), **binary}


def test_a_run_folder_holds_what_is_needed_to_use_and_to_judge_it(small_run: Run) -> None:
    """Names of all files, and the first things in them."""
    assert {p.name for p in small_run.path.iterdir()} == {
        "config.json",
        "environment.json",
        "metrics.jsonl",
        "cost.json",
        "stage_1.safetensors",
        "head.safetensors",
        "statistics.safetensors",
        "guarantee.json",
        "calibration.json",
    }
    metrics = (small_run.path / "metrics.jsonl").read_text().splitlines()
    environment = json.loads((small_run.path / "environment.json").read_text())
    assert environment.keys() >= {"torch", "numpy", "python", "n_threads", "git_commit"}
    assert small_run.config.head == SMALL
    cost = Cost.load(small_run.path)
    assert cost is not None
    assert cost.seconds == pytest.approx(sum(json.loads(line)["seconds"] for line in metrics))
    assert cost.peak_memory_mib is None or cost.peak_memory_mib > 10
    assert small_run.config.data.seen_classes == tuple(f"class {i}" for i in range(9))


def test_a_run_tells_what_can_be_promised_and_whether_tracks_agree(small_run: Run) -> None:
    """For each set of tracks, by clips that the first stage's head was not trained on."""
    assert small_run.guarantees is not None
    found = {(one.tracks, one.kind, one.n_names): one for one in small_run.guarantees.limits}
    assert {tracks for tracks, _, _ in found} == {"both", "visual", "audio"}
    assert found["both", "seen", 9].n_groups == 48
    assert found["audio", "unseen", 9].n_groups == 3
    agreement = small_run.calibrations.agreement
    assert agreement is not None
    assert agreement.visual_temperature > 0


def test_the_second_stage_trains_as_long_and_as_fast_as_was_best_in_the_first(small_run: Run) -> None:
    """As many epochs, with the first stage's learning rates, and nothing measured."""
    history = contents(small_run.path)["history"]
    first, second = ([r for r in history if r["stage"] == s] for s in (1, 2))
    best = int(np.argmax([record["harmonic_mean"] for record in first]))
    assert len(first) == SMALL.n_epochs
    assert [r["lr"] for r in second] == [r["lr"] for r in first[: best + 1]]
    assert not any("harmonic_mean" in record for record in second)


def test_the_same_seed_gives_the_same_run_and_another_seed_another(
    small_run: Run, small_data: GzslData, tmp_path: Path
) -> None:
    """Bit for bit, whatever was drawn from torch's own generator in between."""
    torch.rand(100)
    state = torch.random.get_rng_state()
    again = train(small_data, SMALL, tmp_path / "again", n_threads=1)
    other = train(small_data, SMALL.model_copy(update={"seed": 7}), tmp_path / "other", n_threads=1)
    assert contents(again.path) == contents(small_run.path)
    assert contents(other.path)["head.safetensors"] != contents(small_run.path)["head.safetensors"]
    assert torch.equal(torch.random.get_rng_state(), state)


def dies_at(call: int, function: Callable[..., Any], *, after: bool = False) -> Callable[..., Any]:
    """The function, but its n-th call ends in KilledError, before or after its work."""
    calls = 0

    def dying(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == call and not after:
            raise KilledError
        result = function(*args, **kwargs)
        if calls == call:
            raise KilledError
        return result

    return dying


@pytest.mark.parametrize(
    ("where", "name", "call", "after"),
    [
        (ClipClap, "loss_terms", 3, False),  # within the first epoch
        (ClipClap, "loss_terms", 9, False),  # within the second
        (training, "save_checkpoint", 1, True),  # between checkpoint and metrics
        (run_folder, "save_file", 2, True),  # a partial checkpoint on disk
        (
            training,
            "write_metrics",
            4,
            True,
        ),  # after the first epoch of the second stage
        (training, "calibrate_fused", 1, False),  # before anything final is written
        (training, "save_tensors", 2, True),  # weights written, calibration not
        (training, "remove_checkpoints", 1, False),  # all done but the cleaning up
    ],
)
def test_a_killed_run_continues_to_the_same_result(
    small_run: Run,
    small_data: GzslData,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    where: Any,
    name: str,
    call: int,
    after: bool,
) -> None:
    """Killed at many moments, then started again with the same arguments."""
    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(where, name, dies_at(call, getattr(where, name), after=after))
        with pytest.raises(KilledError):
            train(small_data, SMALL, out, n_threads=1)
    train(small_data, SMALL, out, n_threads=1)
    assert contents(out) == contents(small_run.path)


def test_an_unfinished_run_cannot_be_taken_for_a_finished_one(
    small_data: GzslData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Loading it says what to do."""
    monkeypatch.setattr(training, "calibrate_fused", dies_at(1, calibration.calibrate_fused))
    with pytest.raises(KilledError):
        train(small_data, SMALL, tmp_path / "run", n_threads=1)
    with pytest.raises(RunError, match="no finished run"):
        Run.load(tmp_path / "run")


def test_training_into_the_folder_of_another_run_is_refused(
    small_run: Run, small_data: GzslData, tmp_path: Path
) -> None:
    """Other settings, other data, or files that are no run."""
    with pytest.raises(RunError, match="other settings"):
        train(small_data, SMALL.model_copy(update={"lr": 0.5}), small_run.path)
    with pytest.raises(RunError, match="other settings or other data"):
        train(small_world(seed=1), SMALL, small_run.path)
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(RunError, match="not empty"):
        train(small_data, SMALL, tmp_path)


def test_a_trained_run_does_not_depend_on_the_test_clips(
    small_run: Run, small_data: GzslData, tmp_path: Path
) -> None:
    """Other test clips: the same weights, statistics and calibration."""
    seen = small_data.splits["test_seen"]
    noise = np.random.default_rng(0).normal(size=seen.visual.shape).astype(np.float32)
    splits = {**small_data.splits, "test_seen": SplitFeatures(noise, seen.audio, seen.class_index)}
    other = train(replace(small_data, splits=splits), SMALL, tmp_path / "run", n_threads=1)
    assert contents(other.path) == contents(small_run.path)


@pytest.mark.parametrize("length", [0, 100])
def test_a_damaged_checkpoint_is_named(
    small_data: GzslData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, length: int
) -> None:
    """Empty or cut short, as a power cut leaves it; without it the run goes on."""
    path, out = tmp_path / "run" / "stage_1.checkpoint", tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(training, "save_checkpoint", dies_at(1, save_checkpoint, after=True))
        with pytest.raises(KilledError):
            train(small_data, SMALL, out, n_threads=1)
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(RunError, match=r"stage_1\.checkpoint is damaged .*; remove it"):
        train(small_data, SMALL, out, n_threads=1)
    path.unlink()
    assert train(small_data, SMALL, out, n_threads=1).calibration


def test_epochs_are_chosen_on_the_clips_that_are_calibrated(small_run: Run, small_data: GzslData) -> None:
    """On those with both tracks: the others, ranked with one, don't change the figures."""
    stage = StageTensors.of(small_data, small_data.stage(1), torch.device("cpu"))
    clips = stage.eval_unseen
    twice = Clips(
        torch.cat([clips.visual, -clips.visual]),
        torch.cat([clips.audio, torch.zeros_like(clips.audio)]),
        clips.class_index.repeat(2),
    )
    mixed = replace(stage, eval_unseen=twice)
    assert training.measure(small_run.network, SMALL, mixed) == training.measure(
        small_run.network, SMALL, stage
    )


def test_training_stops_when_the_loss_is_not_finite(small_data: GzslData, tmp_path: Path) -> None:
    """With the stage, the epoch, and what to try."""
    with pytest.raises(RunError, match=r"stage 1, epoch .* not finite"):
        train(small_data, SMALL.model_copy(update={"lr": 1e30}), tmp_path / "run", n_threads=1)


def test_the_middle_of_equally_good_raw_weights_is_chosen(small_run: Run, small_data: GzslData) -> None:
    """Few validation clips are all ranked right by many weights; the outermost of them is no good choice."""
    weights = [weight for weight in calibration.RAW_WEIGHTS if weight > 0]
    stage = StageTensors.of(small_data, small_data.stage(1), torch.device("cpu"))
    ranked = rank_embedding(small_run.network, SMALL, small_run.statistics, stage)
    found = calibration.calibrate_fused(ranked, small_run.statistics, stage)
    assert found.harmonic_mean == 100
    assert weights[4] < found.raw_weight < weights[-4]


def test_the_smaller_of_two_equally_good_raw_weights_is_chosen(small_run: Run, small_data: GzslData) -> None:
    """A head that ranks just as the raw features do is used, not left out; of three it is the middle one."""
    stage_1 = StageTensors.of(small_data, small_data.stage(1), torch.device("cpu"))
    raw = rank_raw(small_run.statistics, stage_1, 0.5)
    for weights, chosen in (((0.75, 1.0), 0.75), ((0.5, 0.75, 1.0), 0.75)):
        found = calibration.calibrate_fused(raw, small_run.statistics, stage_1, weights, (0.5,))
        assert found.raw_weight == chosen


def test_runs_with_retired_settings_are_read_or_refused(
    small_run: Run, small_data: GzslData, tmp_path: Path
) -> None:
    """A setting that is gone may have the one value that is left; any other is named."""
    old = Path(shutil.copytree(small_run.path, tmp_path / "old"))
    document = json.loads((old / "config.json").read_text())
    document["head"] |= {"kl_direction": "text_to_av", "decode_standardised": False}
    (old / "config.json").write_text(json.dumps(document))
    assert Run.load(old).config == small_run.config
    assert train(small_data, SMALL, old).path == old
    for name, value in (("decode_standardised", True), ("logit_scale", "learned")):
        changed = document | {"head": document["head"] | {name: value}}
        (old / "config.json").write_text(json.dumps(changed))
        with pytest.raises(RunError, match=rf"config\.json can't be used: .*{name}"):
            Run.load(old)


def test_small_steps_get_one_thread(small_data: GzslData) -> None:
    """The small world's step is 0.7 million weights times 21 rows; that of the published size gets more."""
    assert training.threads_for(SMALL, small_data, 16) == 1
    wide = replace(
        small_data,
        text_visual=np.ones((12, 512), np.float32),
        text_audio=np.ones((12, 1024), np.float32),
    )
    config = SMALL.model_copy(update={"batch_size": 64})
    assert training.threads_for(config, wide, 16) == (64 + 9) * 2_237_824 // training.PRODUCTS_PER_THREAD == 3
    assert training.threads_for(config, wide, 2) == 2


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"modality": "visual", "modality_dropout": 0.2}, "modality=visual has only one"),
        ({"modality": "audio", "raw_fusion": True}, "modality=audio has only one"),
        ({"select_by": "served"}, "without raw_fusion"),
        (
            {"modality": "visual", "quality_weights": True},
            "both tracks of a clip; modality=visual has only one",
        ),
        (
            {"method": "avca", "quality_weights": True},
            "quality_weights is a setting of clip_clap; avca has none",
        ),
        (
            {"method": "hsp_moe", "adapter_scale": 0.2},
            "adapter_scale is a setting of clip_clap; hsp_moe has none",
        ),
        ({"method": "cjme", "align_class": True}, "align_class is a setting of clip_clap; cjme has none"),
        ({"decoder_dropout": 0.5}, "decoder_dropout is a setting of avca, .*; clip_clap has none"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(settings: dict[str, Any], says: str) -> None:
    """With the reason, before anything is trained."""
    with pytest.raises(ValueError, match=says):
        HeadConfig.model_validate(settings)


def test_epochs_are_chosen_by_the_ranking_that_is_served(tmp_path: Path) -> None:
    """The history then has the fused figures: not below those of the raw features, which it can choose."""
    config = HeadConfig.model_validate(SMALL.model_dump() | {"select_by": "served", "lr": 1e-7})
    data = small_world(noise=1.0)
    served = train(data, config, tmp_path / "served", n_threads=1)
    plain = train(data, config.model_copy(update={"select_by": "embedding"}), tmp_path / "plain", n_threads=1)
    first = [
        [record["harmonic_mean"] for record in contents(run.path)["history"] if record["stage"] == 1]
        for run in (served, plain)
    ]
    raw = served.calibrations.raw.harmonic_mean
    assert min(first[0]) >= raw > max(first[1])
