"""The best names of many clips in one pass, against the ranking of each clip by itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from service import best
from service.best import best_of_each
from service.bundle.head_specs import AgreementScore
from service.classifier import rank_names
from service.embed.embeddings import LabelEmbeddings, label_embeddings, rows_of
from service.encode.features import ClipFeatures, TextFeatures, unit
from service.labels.label import make_label
from service.registry import Bundle, load_bundle
from service.runtime.providers import Runtime
from tests.toy import CLASSES, write_toy_bundle

N = 40


AGREEMENT = AgreementScore(visual_temperature=0.3, audio_temperature=0.5, threshold=0.1, scale=0.7)


@pytest.fixture(params=[0.0, 0.3, 1.0, None], ids=["embedding", "both", "raw", "no head"])
def bundle(request: pytest.FixtureRequest, tmp_path: Path) -> Bundle:
    """Toy bundles with the distances of a head in several weights, and one without a trained head."""
    folder = tmp_path / "toy"
    if request.param is None:
        write_toy_bundle(folder, head="similarity", agreement=AGREEMENT)
    else:
        calibration = {"raw_weight": request.param, "beta": 0.4}
        write_toy_bundle(folder, seen=CLASSES[:4], agreement=AGREEMENT, **calibration)
    return load_bundle(folder, Runtime(device="cpu"))


def _names(bundle: Bundle) -> LabelEmbeddings:
    """Random ones; the last is the first again, so distances are tied."""
    draw = np.random.default_rng(0)
    visual, audio = (unit(draw.standard_normal((N, 3), dtype=np.float32)) for _ in range(2))
    visual[-1], audio[-1] = visual[0], audio[0]
    texts = TextFeatures(visual, audio)
    labels = [make_label(name) for name in (*CLASSES, *(f"name {i}" for i in range(N - len(CLASSES))))]
    return label_embeddings(bundle, labels, rows_of(texts, bundle.head.embed_names(texts)))


def _clips() -> list[ClipFeatures]:
    draw = np.random.default_rng(1)
    visual, audio = (unit(draw.standard_normal((6, 3), dtype=np.float32)) for _ in range(2))
    both = [ClipFeatures(*one) for one in zip(visual, audio, strict=True)]
    return [*both[:4], both[4].only("visual"), both[5].only("audio")]


@pytest.mark.parametrize("k", [1, 5, N, 100])
def test_the_best_are_those_of_each_clip_by_itself(
    bundle: Bundle, k: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In blocks that do not divide the names, and with tracks that are missing."""
    monkeypatch.setattr(best, "_BLOCK", 7)
    names, clips = _names(bundle), _clips()
    found = best_of_each(bundle, clips, names, "auto", k)
    for clip, one in zip(clips, found, strict=True):
        expected = rank_names(bundle, clip, names, "auto").best(k)
        assert one.index.tolist() == expected.index.tolist()
        assert one.unknown == pytest.approx(expected.unknown, abs=1e-6)
        np.testing.assert_allclose(one.distance, expected.distance, atol=2e-6)
        np.testing.assert_allclose(one.score, expected.score, rtol=1e-5)
        for track, alone in ((one.visual, expected.visual), (one.audio, expected.audio)):
            assert (track is None) == (alone is None)
            if track is not None and alone is not None:
                np.testing.assert_allclose(track.similarity, alone.similarity, atol=1e-6)
                np.testing.assert_allclose(track.score, alone.score, rtol=1e-5)
        assert (one.agreement is None) == (expected.agreement is None)
        if one.agreement is not None and expected.agreement is not None:
            assert one.agreement.score == pytest.approx(expected.agreement.score, abs=1e-5)
            assert one.agreement.visual_first == expected.agreement.visual_first
            assert one.agreement.audio_first == expected.agreement.audio_first
            assert one.agreement.surer == expected.agreement.surer


def test_no_clips_have_no_best(bundle: Bundle) -> None:
    """A clip all of whose segments are empty."""
    assert best_of_each(bundle, [], _names(bundle), "auto", 5) == []
