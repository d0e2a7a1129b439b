"""Residual adapters and quality weights: where they start, what they compute, trained, resumed and served."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model_export.data.gzsl_data import GzslData
from model_export.head import training
from model_export.head.head_config import HeadConfig
from model_export.head.methods.clip_clap import ClipClap
from model_export.head.methods.track_features import QualityWeights, ResidualAdapter
from model_export.head.run_folder import Run
from model_export.head.training import train
from tests.model_export.conftest import SMALL
from tests.model_export.head.methods.toy_run import served_and_torch_distances, toy_world
from tests.model_export.head.small_world import N_AUDIO, N_VISUAL, small_world

BOTH = {"adapter_scale": 0.2, "quality_weights": True}
SETTINGS: list[dict[str, Any]] = [{"adapter_scale": 0.2}, {"quality_weights": True}, BOTH]


def features(n: int, size: int, seed: int = 0) -> Tensor:
    """Unit rows [n, size]."""
    return F.normalize(torch.randn(n, size, generator=torch.Generator().manual_seed(seed)), dim=1)


def n_added(n_visual: int, n_audio: int, settings: dict[str, Any]) -> int:
    """Trainable numbers that settings add to CLIP-CLAP's."""
    sizes = []
    for changes in (settings, {}):
        network = ClipClap(HeadConfig.model_validate(changes), n_visual, n_audio)
        sizes.append(sum(p.numel() for p in network.parameters()))
    return sizes[0] - sizes[1]


def test_parameters_at_the_published_dimensions() -> None:
    """Two matrices for each encoder; and for each track a hidden layer of 32 and a score."""
    adapters = 2 * 512 * 128 + 2 * 1024 * 256
    weights = (512 * 32 + 32) + (1024 * 32 + 32) + 2 * (32 + 1)
    assert n_added(512, 1024, {"adapter_scale": 1.0}) == adapters == 655_360
    assert n_added(512, 1024, {"quality_weights": True}) == weights == 49_282


@pytest.mark.parametrize("settings", SETTINGS)
def test_a_head_starts_as_it_would_without_them(settings: dict[str, Any]) -> None:
    """All other weights are drawn alike, and both embeddings are the same."""
    networks = []
    for changes in (settings, {}):
        torch.manual_seed(0)
        networks.append(ClipClap(HeadConfig.model_validate(changes), N_VISUAL, N_AUDIO).eval())
    clips = 3 * features(5, N_VISUAL), features(5, N_AUDIO)
    torch.testing.assert_close(networks[0].embed_av(*clips), networks[1].embed_av(*clips))
    torch.testing.assert_close(networks[0].embed_text(*clips), networks[1].embed_text(*clips))


def test_an_adapter_by_hand() -> None:
    """(0.6, 0.8) + 0.5 * (0, -0.7) is (0.6, 0.45), of length 0.75; behind the ReLU nothing is added."""
    adapter = ResidualAdapter(4, scale=0.5)
    adapter.narrow.weight.data = torch.tensor([[1.0, 0.0, 0.0, 0.0]])
    adapter.widen.weight.data = torch.tensor([[0.0], [-7 / 6], [0.0], [0.0]])
    x = torch.tensor([[0.6, 0.8, 0.0, 0.0]])
    torch.testing.assert_close(adapter(x), torch.tensor([[0.8, 0.6, 0.0, 0.0]]))
    torch.testing.assert_close(adapter(-x), -x)


def test_adapted_features_have_unit_length_and_a_track_that_no_clip_has_stays_zero() -> None:
    """The gradient of zero features is finite too, though they have no direction."""
    adapter = ResidualAdapter(20, scale=3.0)
    nn.init.normal_(adapter.widen.weight)
    x = torch.cat([features(7, 20), torch.zeros(1, 20)])
    adapted = adapter(x)
    assert adapted.shape == (8, 20)
    torch.testing.assert_close(adapted.norm(dim=1), torch.tensor([1.0] * 7 + [0.0]))
    assert not torch.allclose(adapted[:7], x[:7], atol=0.1)
    (adapted * features(8, 20, seed=1)).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in adapter.parameters())


def test_quality_weights_by_hand() -> None:
    """Scores 0 and ln 3: a quarter and three quarters, twice."""
    quality = QualityWeights(2, 3)
    nn.init.constant_(quality.score_audio.get_parameter("2.bias"), math.log(3))
    both = torch.tensor([[0.6, 0.8, 0.0, 0.0, 1.0]])
    torch.testing.assert_close(quality(both), torch.tensor([[0.3, 0.4, 0.0, 0.0, 1.5]]))


def test_a_track_is_scored_by_its_own_features() -> None:
    """Another sound changes the odds of the weights by a factor that is the same for every picture."""
    torch.manual_seed(0)
    quality = QualityWeights(N_VISUAL, N_AUDIO).requires_grad_(requires_grad=False)
    for score in (quality.score_visual, quality.score_audio):
        nn.init.normal_(score.get_parameter("2.weight"))
    pictures = features(6, N_VISUAL)
    odds = []
    for sound in features(2, N_AUDIO):
        weights = quality.weights(pictures, sound.expand(6, -1))
        torch.testing.assert_close(weights.sum(dim=1), torch.full((6,), 2.0))
        odds.append(weights[:, 0] / weights[:, 1])
    factor = odds[0] / odds[1]
    torch.testing.assert_close(factor, factor[:1].expand(6))
    assert abs(float(factor[0]) - 1) > 1e-3


@pytest.mark.parametrize(
    ("settings", "adapted", "texts"),
    [
        ({}, ["visual", "audio"], {"visual", "audio"}),
        ({"text": "clip"}, ["visual", "audio"], {"visual"}),
        ({"text": "clap"}, ["visual", "audio"], {"audio"}),
        ({"modality": "visual"}, ["visual"], {"visual"}),
        ({"modality": "audio"}, ["audio"], {"audio"}),
    ],
)
def test_clips_and_texts_of_an_encoder_share_its_adapter(
    settings: dict[str, Any], adapted: list[str], texts: set[str]
) -> None:
    """Changing one changes clips, and texts where its text features are used."""
    config = HeadConfig.model_validate({"adapter_scale": 1.0} | settings)
    network = ClipClap(config, N_VISUAL, N_AUDIO).eval()
    assert network.adapters is not None
    assert list(network.adapters) == adapted
    rows = features(5, N_VISUAL), features(5, N_AUDIO)
    for track, adapter in network.adapters.items():
        before = network.embed_av(*rows), network.embed_text(*rows)
        nn.init.normal_(adapter.get_parameter("widen.weight"))
        assert not torch.equal(network.embed_av(*rows), before[0])
        assert torch.equal(network.embed_text(*rows), before[1]) == (track not in texts)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A finished run on the small world, with both settings."""
    return train(
        small_world(), SMALL.model_copy(update=BOTH), tmp_path_factory.mktemp("both") / "run", n_threads=1
    )


def test_both_are_trained_and_the_raw_ranking_stays_that_of_the_frozen_encoders(
    run: Run, small_run: Run
) -> None:
    """They have left their start, and the raw calibration is to the digit that of a run without them."""
    weights = run.network.state_dict()
    for name in ("adapters.visual.widen.weight", "adapters.audio.widen.weight", "quality.score_audio.2.bias"):
        assert weights[name].any(), name
    assert run.calibrations.raw == small_run.calibrations.raw


def test_a_killed_run_with_both_continues_to_the_same_weights(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between two epochs of the first stage."""
    config = SMALL.model_copy(update=BOTH)

    def dies(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(training, "write_metrics", dies)
        with pytest.raises(KeyboardInterrupt):
            train(small_world(), config, tmp_path / "run", n_threads=1)
    again = train(small_world(), config, tmp_path / "run", n_threads=1).network.state_dict()
    expected = run.network.state_dict()
    assert again.keys() == expected.keys()
    assert all(torch.equal(again[name], expected[name]) for name in expected)


def with_poor_pictures(data: GzslData) -> GzslData:
    """The data, but every second picture is noise, all of it in about one direction."""
    random = np.random.default_rng(0)
    away = random.normal(size=data.n_visual)
    splits = {}
    for name, split in data.splits.items():
        noise = away + random.normal(size=split.visual.shape)
        is_poor = np.arange(len(split))[:, None] % 2 == 0
        splits[name] = replace(split, visual=np.where(is_poor, noise, split.visual).astype(np.float32))
    return replace(data, splits=splits)


def test_a_poor_picture_counts_less(tmp_path: Path) -> None:
    """Trained on clips of which half have noise for a picture, also in test clips of classes never seen."""
    data = with_poor_pictures(small_world(n_clips=20))
    changes = {"quality_weights": True, "n_epochs": 1, "n_batches_per_epoch": 60, "lr": 1e-2}
    quality = train(data, SMALL.model_copy(update=changes), tmp_path / "run", n_threads=1).network.quality
    assert isinstance(quality, QualityWeights)
    clips = data.splits["test_unseen"]
    with torch.no_grad():
        tracks = (F.normalize(torch.from_numpy(track), dim=1) for track in (clips.visual, clips.audio))
        weights = quality.weights(*tracks)[:, 0]
    assert weights[::2].mean() < 0.9 * weights[1::2].mean()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # the exporter warns about its own internals
def test_served_distances_are_torchs(toy_bundle: Path, tmp_path: Path) -> None:
    """Both halves as graphs in a bundle, clips with one track included."""
    config = SMALL.model_copy(update=BOTH | {"raw_fusion": False, "lr": 1e-2})
    run = train(toy_world(), config, tmp_path / "run", n_threads=1)
    weights = run.network.state_dict()
    assert all(weights[name].any() for name in weights if name.startswith(("adapters", "quality")))
    served, expected = served_and_torch_distances(run, toy_bundle, tmp_path / "mine")
    np.testing.assert_allclose(served, expected, rtol=1e-4, atol=1e-4)
