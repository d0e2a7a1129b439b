"""The straightforward service, with the graphs of a toy bundle."""

from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
import torch
from fastapi.testclient import TestClient

from benchmarks.throughput import opponent, opponent_models
from benchmarks.throughput.opponent import EveryTime, Kept, Straightforward, create_app
from benchmarks.throughput.opponent_models import GraphModels, Models
from service.encode.text import encode_labels
from service.labels.label import Label
from service.registry import load_bundle
from service.runtime.providers import Runtime
from tests.toy import CLASSES


@pytest.mark.parametrize("bundle", ["toy_bundle", "shared_bundle"])
def test_names_have_the_same_features_as_in_the_service(bundle: str, request: pytest.FixtureRequest) -> None:
    """With one text graph for each track, and with one for both."""
    directory: Path = request.getfixturevalue(bundle)
    encoders = load_bundle(directory, Runtime(device="cpu")).encoders
    expected = encode_labels(encoders, [Label(name) for name in CLASSES])
    visual, audio = GraphModels(directory, 1).read(CLASSES, [])
    np.testing.assert_allclose(visual.numpy(), expected.visual, atol=1e-5)
    np.testing.assert_allclose(audio.numpy(), expected.audio, atol=1e-5)


def test_kept_names_have_the_features_that_they_had_at_first(toy_bundle: Path) -> None:
    """In the order of the request, whatever came before."""
    models = GraphModels(toy_bundle, 1)
    kept = Kept(models, n_made_up=3)
    kept.features(CLASSES[:2], [])
    names, found = kept.features(CLASSES[::-1], [])
    assert list(names) == CLASSES[::-1]
    for one, expected in zip(found, models.read(CLASSES[::-1], []), strict=True):
        torch.testing.assert_close(one, expected)


@pytest.mark.parametrize("of", [EveryTime, lambda models: Kept(models, n_made_up=3)])
def test_very_many_names_are_encoded_some_at_a_time(
    of: Callable[[Models], EveryTime | Kept], toy_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the features that they have together."""
    models = GraphModels(toy_bundle, 1)
    found = of(models)
    monkeypatch.setattr(opponent_models, "NAMES_AT_ONCE", 3)
    with patch.object(models, "read", side_effect=models.read) as read:
        _, features = found.features(CLASSES[:8], [])
    lengths = [len(call.args[0]) for call in read.call_args_list]
    assert lengths == [3, 3, 2]
    for one, expected in zip(features, models.read(CLASSES[:8], []), strict=True):
        torch.testing.assert_close(one, expected)


def test_a_request_without_names_ranks_the_names_of_the_set(toy_bundle: Path) -> None:
    """As one that names a label set of the service does."""
    names, (visual, audio) = Kept(GraphModels(toy_bundle, 1), n_made_up=3).features([], [])
    assert len(names) == len(visual) == len(audio) == 3
    assert visual.norm(dim=1).tolist() == pytest.approx([1.0] * 3)


def test_it_answers_a_clip_as_the_service_does(
    toy_bundle: Path, clips: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The best names of a clip, in the members of the service's answer."""
    monkeypatch.setattr(opponent, "N_FRAMES", 2)
    models = GraphModels(toy_bundle, 1)
    client = TestClient(create_app(Straightforward(models, EveryTime(models), "cpu")))
    with clips["red low"].open("rb") as clip:
        answer = client.post(
            "/v1/classify", files={"file": clip}, data={"labels": '["red low", "blue high"]', "top_k": 1}
        )
    (best,) = answer.raise_for_status().json()["predictions"]
    assert best["label"] == "red low"
    assert best["visual"]["similarity"] > 0


def test_segments_are_ranked_by_their_own_frames_and_sound(
    toy_bundle: Path, clips: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clip of one thing has it in each of its segments; the last may be short."""
    monkeypatch.setattr(opponent, "N_FRAMES", 2)
    monkeypatch.setattr(opponent, "N_SEGMENT_FRAMES", 2)
    models = GraphModels(toy_bundle, 1)
    service = Straightforward(models, EveryTime(models), "cpu")
    best, segments = service.answer(str(clips["red low"]), CLASSES, [], 1, 0.75)
    assert len(segments) >= 2
    assert {one["label"] for (one,) in segments} == {best[0]["label"]} == {"red with a low tone"}
