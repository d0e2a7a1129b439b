"""EZ-AVOOD: sizes, both scores and their weights against oracles, and the judgement within the distances."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from scipy.special import logsumexp
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from torch import nn

from model_export.data.gzsl_data import SplitFeatures
from model_export.head import training
from model_export.head.distances import embedding_distances, rank_embedding
from model_export.head.evaluation import evaluate
from model_export.head.head_config import PRESETS, HeadConfig
from model_export.head.methods import make_network
from model_export.head.methods.ez_avood import RIDGE, EzAvood, fit_log_odds, outside_of_subspace
from model_export.head.network import unit_columns
from model_export.head.run_folder import Run
from model_export.head.stage_tensors import Clips, StageTensors
from model_export.head.standardisation import exact_statistics
from model_export.head.training import train
from model_export.head.training_batches import StageInputs
from tests.conftest import Ahse
from tests.model_export.head.small_world import N_AUDIO, N_VISUAL, small_world

CPU = torch.device("cpu")
SMALL = PRESETS["ez_avood"].model_copy(
    update={"n_epochs": 3, "n_batches_per_epoch": 10, "batch_size": 12, "lr": 1e-3}
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A finished run on the small world."""
    return train(small_world(), SMALL, tmp_path_factory.mktemp("ez_avood") / "run", n_threads=1)


@pytest.fixture
def network() -> EzAvood:
    """A network with random weights, in evaluation mode, for three seen classes."""
    torch.manual_seed(0)
    made = make_network(HeadConfig(method="ez_avood"), N_VISUAL, N_AUDIO, 3).eval()
    assert isinstance(made, EzAvood)
    return made


def n_parameters(module: nn.Module) -> int:
    """Trainable numbers of a module."""
    return sum(p.numel() for p in module.parameters())


def test_the_classifier_is_added_to_the_parameters_of_clip_clap() -> None:
    """Two blocks, n x 512 + 512 and a norm of 1,024 each, and 513 numbers for each of 30 classes."""
    network = make_network(HeadConfig(method="ez_avood"), 512, 1024, 30)
    assert isinstance(network, EzAvood)
    assert n_parameters(network.classifier_hidden) == 787_968 + 263_680
    assert n_parameters(network.classifier_logits) == 513 * 30 == 15_390
    assert n_parameters(network) == 2_237_824 + 787_968 + 263_680 + 15_390 == 3_304_862


def test_the_subspace_is_that_of_a_principal_component_analysis() -> None:
    """What is left of features outside the first half of the components, against scikit-learn."""
    random = np.random.default_rng(0)
    features = random.normal(size=(200, 12)) * np.linspace(3, 0.2, 12) + random.normal(size=12)
    analysis = PCA(n_components=6).fit(features)
    left = features - analysis.inverse_transform(analysis.transform(features))
    outside = outside_of_subspace(torch.from_numpy(features).float())
    found = (features - features.mean(axis=0)) @ outside.numpy()
    np.testing.assert_allclose(found, left, atol=1e-4)


def test_the_weights_of_the_scores_are_those_of_a_logistic_regression() -> None:
    """Of scikit-learn, with the same ridge on standardised scores, each group weighing one half."""
    random = np.random.default_rng(0)
    seen, unseen = random.normal(size=(300, 2)), random.normal(size=(50, 2)) * [2, 1] + [1.5, 0.7]
    scores, is_unseen = np.concatenate([seen, unseen]), np.repeat([0, 1], [300, 50])
    mean, std = scores.mean(axis=0), scores.std(axis=0)
    oracle = LogisticRegression(C=1 / (2 * RIDGE), tol=1e-8)
    oracle.fit((scores - mean) / std, is_unseen, sample_weight=np.where(is_unseen, 0.5 / 50, 0.5 / 300))
    weights = fit_log_odds(seen, unseen)
    expected = oracle.decision_function((scores - mean) / std)
    np.testing.assert_allclose(scores @ weights[:2] + weights[2], expected, atol=0.02)


def test_a_score_that_misleads_gets_no_weight() -> None:
    """And scores that tell all clips apart get finite ones."""
    random = np.random.default_rng(0)
    seen, unseen = random.normal(size=(100, 2)), random.normal([9, -9], size=(100, 2))
    first, second, constant = fit_log_odds(seen, unseen)
    assert second == 0
    assert 0 < first < 10
    assert -constant / first == pytest.approx(4.5, abs=0.5)


def test_both_scores_are_those_of_the_definitions(network: EzAvood) -> None:
    """Energy and distance from the subspace in numpy float64, and the weights fitted to validation clips."""
    data = small_world()
    stage = StageTensors.of(data, data.stage(1), CPU)
    network.fit(stage, exact_statistics(network, "none", stage), None)

    def hidden(clips: Clips) -> np.ndarray:
        features = network.classifier_hidden(unit_columns((clips.visual, clips.audio)))
        return features.detach().double().numpy()  # type: ignore[no-any-return]

    analysis = PCA(n_components=47).fit(hidden(stage.train))  # 48 clips have no more about their mean
    last = network.classifier_logits
    weight, bias = (p.detach().double().numpy() for p in (last.weight, last.bias))

    def scores(clips: Clips) -> np.ndarray:
        features = hidden(clips)
        left = features - analysis.inverse_transform(analysis.transform(features))
        energy = -logsumexp(features @ weight.T + bias, axis=1)
        return np.stack([energy, np.linalg.norm(left, axis=1)], axis=1)

    expected = fit_log_odds(scores(stage.eval_seen), scores(stage.eval_unseen))
    np.testing.assert_allclose(network.log_odds, expected, rtol=0.01, atol=0.05)


def test_seen_classes_are_ranked_by_the_classifier_and_unseen_ones_by_clip_clap(network: EzAvood) -> None:
    """The nearest seen class is as much nearer than the nearest unseen one as the log odds are below 2.5."""
    seen, unseen = torch.tensor([0, 2, 3]), torch.tensor([1, 5])
    distances = torch.rand(6, 7)
    visual, audio = torch.randn(6, N_VISUAL), torch.randn(6, N_AUDIO)
    network.log_odds.copy_(torch.tensor([0.0, 0.0, -1.0]))
    found = network.final_distances(distances, visual, audio, seen, unseen)
    assert torch.equal(found[:, [1, 4, 5, 6]], distances[:, [1, 4, 5, 6]])
    logits = network.classifier_logits(network.classifier_hidden(unit_columns((visual, audio))))
    assert torch.equal(found[:, seen].argmin(dim=1), logits.argmax(dim=1))
    difference = found[:, seen].amin(dim=1) - distances[:, unseen].amin(dim=1)
    torch.testing.assert_close(difference, torch.full((6,), -3.5))


def test_beta_is_the_threshold_on_the_log_odds(run: Run) -> None:
    """Each prediction of the pooled test clips, against the judgement clip by clip."""
    data = small_world()
    stage, network = StageTensors.of(data, data.stage(2), CPU), run.network
    assert isinstance(network, EzAvood)
    ranked = rank_embedding(network, SMALL, run.statistics, stage)
    n_seen = 0
    for beta in (0.0, 1.0, 2.5, 4.0):
        stacked, _ = ranked.stacked(beta)
        predicted = ranked.candidates()[stacked.argmin(axis=1)]
        row = 0
        for clips in (stage.eval_seen, stage.eval_unseen):
            near = embedding_distances(network, "none", run.statistics, clips, stage.texts)[:, stage.unseen]
            for v, a, to_unseen in zip(clips.visual, clips.audio, near, strict=True):
                hidden = network.classifier_hidden(unit_columns((v[None], a[None])))
                logits = network.classifier_logits(hidden)[0]
                residual = ((hidden[0] - network.subspace_mean) @ network.outside).norm()
                scores = torch.stack([-logits.logsumexp(dim=0), residual])
                log_odds = (scores @ network.log_odds[:2] + network.log_odds[2]).item()
                if abs(log_odds + beta - 2.5) > 1e-3:
                    judged_seen = log_odds + beta < 2.5
                    n_seen += judged_seen
                    group = stage.seen[logits.argmax()] if judged_seen else stage.unseen[to_unseen.argmin()]
                    assert predicted[row] == group
                row += 1
    assert 0 < n_seen < 4 * row


def test_the_classifier_shares_no_weight_with_clip_clap() -> None:
    """Its term is the cross entropy, and gives CLIP-CLAP's networks no gradient."""
    data = small_world()
    stage = StageTensors.of(data, data.stage(1), CPU)
    network = make_network(SMALL, N_VISUAL, N_AUDIO, 6).eval()
    assert isinstance(network, EzAvood)
    batch = next(StageInputs.of(stage, network).batches(SMALL, seed=0))
    terms = network.loss_terms(batch)
    hidden = network.classifier_hidden(unit_columns((batch.visual, batch.audio)))
    logits = network.classifier_logits(hidden)
    torch.testing.assert_close(terms["classifier"], F.cross_entropy(logits, batch.target))
    terms["classifier"].backward()  # type: ignore[no-untyped-call]
    touched = {name.split(".")[0] for name, p in network.named_parameters() if p.grad is not None}
    assert touched == {"classifier_hidden", "classifier_logits"}
    assert terms.keys() == {"cross_entropy", "regression", "reconstruction", "classifier"}


def test_training_ends_in_a_ranking_better_than_chance(run: Run) -> None:
    """Chance is 8 per cent among 12 classes, and one half for telling seen classes from unseen ones."""
    found = evaluate(run, small_world())
    assert found.accuracy.seen > 60
    assert found.accuracy.harmonic_mean > 40
    assert found.unknown_auroc > 0.7


def test_weights_of_the_scores_come_from_validation_and_all_else_from_each_stage(run: Run) -> None:
    """The second stage takes over the weights alone; both are stored with the network's weights."""
    first, final = (load_file(run.path / f"{name}.safetensors") for name in ("stage_1", "head"))
    assert torch.equal(first["log_odds"], final["log_odds"])
    assert first["log_odds"][:2].max() > 0
    for name in ("subspace_mean", "outside"):
        assert not torch.equal(first[name], final[name])
    assert (len(first["classifier_logits.bias"]), len(final["classifier_logits.bias"])) == (6, 9)
    loaded = Run.load(run.path).network
    assert all(torch.equal(value, loaded.state_dict()[name]) for name, value in final.items())


def test_the_second_stage_does_not_depend_on_the_test_clips(run: Run, tmp_path: Path) -> None:
    """Other test clips: the same weights, buffers and calibration."""
    data = small_world()
    noise = np.random.default_rng(0).normal(size=data.splits["test_unseen"].visual.shape)
    clips = data.splits["test_unseen"]
    other = SplitFeatures(noise.astype(np.float32), clips.audio, clips.class_index)
    again = train(
        replace(data, splits={**data.splits, "test_unseen": other}), SMALL, tmp_path / "run", n_threads=1
    )
    for name in ("head.safetensors", "calibration.json"):
        assert (again.path / name).read_bytes() == (run.path / name).read_bytes()


class KilledError(Exception):
    """Stands for the process being killed."""


@pytest.mark.parametrize(
    ("name", "call"), [("save_checkpoint", 3), ("write_metrics", 4), ("save_tensors", 1)]
)
def test_a_killed_run_continues_to_the_same_result(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, call: int
) -> None:
    """Before the third checkpoint, after the second stage's first epoch, before the final weights."""
    calls, whole = 0, getattr(training, name)

    def dying(*args: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == call:
            raise KilledError
        whole(*args)

    with monkeypatch.context() as patch:
        patch.setattr(training, name, dying)
        with pytest.raises(KilledError):
            train(small_world(), SMALL, tmp_path / "run", n_threads=1)
    again = train(small_world(), SMALL, tmp_path / "run", n_threads=1)
    for file in ("stage_1.safetensors", "head.safetensors", "calibration.json"):
        assert (again.path / file).read_bytes() == (run.path / file).read_bytes()


def test_a_run_is_evaluated_but_not_exported(ahse: Ahse, run: Run, toy_bundle: Path, tmp_path: Path) -> None:
    """The reason is said, and nothing is written."""
    out = tmp_path / "bundle"
    code, _, complaints = ahse("export", "head", run.path, "--encoders", toy_bundle, "--out", out)
    assert code == 2
    assert "can't be exported: ez_avood needs a classifier of its training classes" in complaints
    assert not out.exists()
