"""Ranking without a trained head: plain CLIP, z-scores of similarities, and real vectors as oracles."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.special import softmax
from scipy.stats import zscore

from service.arrays import Array
from service.bundle.head_specs import SimilarityScore, SimilarityScores, SimilaritySpec
from service.encode.features import ClipFeatures, TextFeatures, unit
from service.errors import BundleInvalidError
from service.head.head import cosines_of
from service.head.similarity import SimilarityHead
from service.head.statistics import SimilarityStatistics, load_similarity_statistics
from service.ranking import Ranking, rank
from service.registry import load_bundle
from service.runtime.providers import Runtime
from tests.toy import not_fitted, write_toy_bundle

VECTORS = Path(__file__).parents[4] / "shared" / "clip_vectors"
HEAD = SimilaritySpec(
    kind="similarity",
    statistics="statistics.safetensors",
    visual_share=0.25,
    n_clips=0,
)


def _random(n: int, dim: int, seed: int) -> Array:
    return unit(np.random.default_rng(seed).normal(size=(n, dim)).astype(np.float32))


def _distances(statistics: SimilarityStatistics, clip: ClipFeatures, texts: TextFeatures) -> Array:
    head = SimilarityHead(HEAD, statistics, 100.0, 20.0)
    return head.distances(clip, cosines_of(clip, texts), head.embed_names(texts))


def _ranking(head: SimilarityHead, clip: ClipFeatures, texts: TextFeatures) -> Ranking:
    embedded = head.embed_names(texts)
    distance = head.distances(clip, cosines_of(clip, texts), embedded)
    return rank(distance, np.zeros(len(distance), bool), head.scoring(clip, embedded), 0.0)


def test_without_statistics_it_is_the_encoders_own_logits() -> None:
    """Cosine times logit scale, by the picture, by the sound, and a weighted mean of both."""
    texts, clip = TextFeatures(_random(9, 8, 0), _random(9, 6, 1)), (_random(1, 8, 2)[0], _random(1, 6, 3)[0])
    statistics = not_fitted(8, 100.0, 6, 20.0)
    visual, audio = 100 * texts.visual @ clip[0], 20 * texts.audio @ clip[1]
    found = [
        _distances(statistics, ClipFeatures(*tracks), texts)
        for tracks in ((clip[0], None), (None, clip[1]), clip)
    ]
    for got, expected in zip(found, (visual, audio, 0.25 * visual + 0.75 * audio), strict=True):
        np.testing.assert_allclose(got, -expected, rtol=1e-4, atol=1e-4)


def test_no_statistics_at_all_are_the_same_as_those_of_no_clips() -> None:
    """Cosine times logit scale to the last bit of rounding; order and scores are those of `not_fitted`."""
    texts = TextFeatures(_random(40, 8, 10), _random(40, 6, 11))
    visual, audio = _random(1, 8, 12)[0], _random(1, 6, 13)[0]
    heads = [
        SimilarityHead(HEAD, statistics, 100.0, 20.0) for statistics in (None, not_fitted(8, 100.0, 6, 20.0))
    ]
    exact = {
        (True, True): 0.25 * 100 * (texts.visual @ visual) + 0.75 * 20 * (texts.audio @ audio),
        (True, False): 100 * (texts.visual @ visual),
        (False, True): 20 * (texts.audio @ audio),
    }
    for (sees, hears), logits in exact.items():
        clip = ClipFeatures(visual if sees else None, audio if hears else None)
        ours, theirs = (_ranking(head, clip, texts) for head in heads)
        np.testing.assert_allclose(ours.distance, -logits, rtol=1e-5, atol=1e-5)
        np.testing.assert_array_equal(ours.best(), theirs.best())
        np.testing.assert_allclose(ours.score, theirs.score, rtol=1e-4)
        np.testing.assert_allclose(ours.score, softmax(logits), rtol=1e-4)
        assert ours.unknown is None


SCORES = SimilarityScores(
    both=SimilarityScore(temperature=0.5, unknown_threshold=6.0, unknown_slope=0.3, unknown_scale=2.0),
    visual=SimilarityScore(temperature=1.5, unknown_threshold=7.0, unknown_slope=0.4, unknown_scale=3.0),
    audio=SimilarityScore(temperature=2.5, unknown_threshold=4.0, unknown_slope=0.0, unknown_scale=0.5),
)


@pytest.mark.parametrize(
    ("tracks", "similarity", "unknown"),
    [
        # sigmoid((6 + 0.3 ln 4 - 8) / 2), of 0.25 x 14 + 0.75 x 6
        ("both", [8.0, 2.0, 1.0, 0.0], 0.311727),
        # sigmoid((7 + 0.4 ln 4 - 14) / 3)
        ("visual", [14.0, 2.0, 1.0, 0.0], 0.104472),
        # sigmoid((4 - 6) / 0.5)
        ("audio", [6.0, 2.0, 1.0, 0.0], 0.017986),
    ],
)
def test_fitted_scores_are_those_of_the_tracks(tracks: str, similarity: list[float], unknown: float) -> None:
    """Temperature and unknown of four names worked out by hand; each set of tracks has its own numbers."""
    spec = HEAD.model_copy(update={"scores": SCORES})
    head = SimilarityHead(spec, None, 20.0, 10.0)
    eye = np.eye(4, dtype=np.float32)
    texts = TextFeatures(eye, eye)
    visual, audio = (np.array([top, 2, 1, 0], np.float32) for top in (14, 6))
    clip = ClipFeatures(
        None if tracks == "audio" else visual / np.float32(20),
        None if tracks == "visual" else audio / np.float32(10),
    )
    found = _ranking(head, clip, texts)
    np.testing.assert_allclose(found.distance, -np.array(similarity), rtol=1e-5, atol=1e-5)
    temperature = getattr(SCORES, tracks).temperature
    np.testing.assert_allclose(found.score, softmax(np.array(similarity) / temperature), rtol=1e-4)
    assert found.unknown == pytest.approx(unknown, abs=1e-5)


def test_more_names_that_do_not_fit_leave_unknown_higher() -> None:
    """The same nearest of a hundred names says less than of two: ln n grows, by the stored slope."""
    head = SimilarityHead(HEAD.model_copy(update={"scores": SCORES}), None, 20.0, 10.0)
    clip = ClipFeatures(np.array([0.3, 0], np.float32), None)
    near, far = np.array([1, 0], np.float32), np.array([0, 1], np.float32)
    unknown = [
        _ranking(
            head, clip, TextFeatures(np.stack([near, *[far] * (n - 1)]), np.zeros((n, 2), np.float32))
        ).unknown
        for n in (2, 100)
    ]
    assert unknown[0] is not None
    assert unknown[1] is not None
    logits = [np.log(one / (1 - one)) for one in unknown if one is not None]
    assert logits[1] - logits[0] == pytest.approx(0.4 * np.log(50) / 3, abs=1e-4)


def test_similarity_is_standardised_by_what_clips_have_to_a_name() -> None:
    """From the moments alone, for names unknown when they were taken: scipy's zscore over the clips."""
    clips = unit(_random(200, 8, 4) + 0.5)
    mean, covariance = clips.mean(axis=0), np.cov(clips.T, bias=True).astype(np.float32)
    statistics = replace(not_fitted(8, 1.0, 6, 1.0), visual_mean=mean, visual_covariance=covariance)
    texts = TextFeatures(_random(5, 8, 5), _random(5, 6, 6))
    found = np.stack([_distances(statistics, ClipFeatures(clip, None), texts) for clip in clips])
    np.testing.assert_allclose(found, -zscore(clips @ texts.visual.T, axis=0), rtol=1e-2, atol=2e-3)


def test_a_name_that_is_similar_to_everything_wins_nothing_by_it() -> None:
    """A hub is nearest by plain similarity, and not by the standardised one."""
    centre = _random(1, 8, 7)[0]
    clips = unit(centre + 0.3 * _random(100, 8, 8))
    clip, own = clips[0], unit(clips[0] - 0.8 * centre)
    texts = TextFeatures(np.stack([centre, own]), np.zeros((2, 6), np.float32))
    plain = _distances(not_fitted(8, 1.0, 6, 1.0), ClipFeatures(clip, None), texts)
    assert plain.argmin() == 0
    covariance = np.cov(clips.T, bias=True).astype(np.float32)
    fitted = replace(not_fitted(8, 1.0, 6, 1.0), visual_mean=clips.mean(axis=0), visual_covariance=covariance)
    assert _distances(fitted, ClipFeatures(clip, None), texts).argmin() == 1


def test_without_statistics_scores_are_the_encoders_own() -> None:
    """Distances are logits then, of either track and of both, so the temperature is one."""
    head = SimilarityHead(HEAD, not_fitted(3, 8.0, 3, 5.0), 8.0, 5.0)
    row, eye = np.ones(3, np.float32), np.eye(3, dtype=np.float32)
    embedded = head.embed_names(TextFeatures(eye, eye))
    for tracks in ((row, row), (row, None), (None, row)):
        assert head.scoring(ClipFeatures(*tracks), embedded).temperature == pytest.approx(1)


def test_statistics_leave_the_scores_as_sharp_as_the_encoders_make_them() -> None:
    """Names that clips' similarity to varies alike: the standardised scores are softmax(scale x cosine)."""
    statistics = SimilarityStatistics(
        np.zeros(3, np.float32),
        np.eye(3, dtype=np.float32) * 0.04,
        np.zeros(3, np.float32),
        np.eye(3, dtype=np.float32),
    )
    head = SimilarityHead(HEAD, statistics, 30.0, 1.0)
    texts = TextFeatures(_random(5, 3, 1), np.zeros((5, 3), np.float32))
    embedded, clip = head.embed_names(texts), ClipFeatures(_random(1, 3, 2)[0], None)
    found = rank(
        head.distances(clip, cosines_of(clip, texts), embedded),
        np.zeros(5, bool),
        head.scoring(clip, embedded),
        0.0,
    )
    assert clip.visual is not None
    np.testing.assert_allclose(found.score, softmax(30 * texts.visual @ clip.visual), rtol=1e-3)


def test_beta_and_unknown_are_not_made_up() -> None:
    """Neither can be known without labelled clips."""
    head = SimilarityHead(HEAD, not_fitted(3, 1.0, 3, 1.0), 1.0, 1.0)
    row = np.ones(3, np.float32)
    names = head.embed_names(TextFeatures(np.eye(3, dtype=np.float32)[:2], np.eye(3, dtype=np.float32)[:2]))
    scoring = head.scoring(ClipFeatures(row, row), names)
    assert (scoring.beta, scoring.unknown) == (0, None)
    assert rank(np.array([1, 2], np.float32), np.zeros(2, bool), scoring, 0.0).unknown is None


def test_a_bundle_without_a_trained_head_opens_and_ranks(tmp_path: Path) -> None:
    """The toy's colours and tones, without its head."""
    bundle = load_bundle(write_toy_bundle(tmp_path / "toy", head="similarity"), Runtime(device="cpu"))
    eye = np.eye(3, dtype=np.float32)
    texts = TextFeatures(visual=eye[[0, 0, 2]], audio=eye[[0, 2, 2]])
    head = bundle.head
    clip = ClipFeatures(eye[0], eye[2])
    found = head.distances(clip, cosines_of(clip, texts), head.embed_names(texts))
    np.testing.assert_allclose(found, [-5, -10, -5], atol=1e-5)


def test_statistics_of_other_dims_are_refused(tmp_path: Path) -> None:
    """They are of another encoder."""
    bundle = write_toy_bundle(tmp_path / "toy", head="similarity")
    path = tmp_path / "other.safetensors"
    not_fitted(4, 1.0, 3, 1.0).save(path)
    with pytest.raises(BundleInvalidError, match="visual_mean is float32"):
        load_similarity_statistics(path, 3, 3)
    assert load_similarity_statistics(bundle / "statistics.safetensors", 3, 3).audio_mean.shape == (3,)


@pytest.mark.skipif(not VECTORS.is_dir(), reason="the shared CLIP vectors are not beside the project")
def test_real_clip_vectors_give_the_expected_names() -> None:
    """CLIP ViT-B/32 vectors of four images against 80 COCO names; the published answers."""
    names = json.loads((VECTORS / "coco_names.json").read_text(encoding="utf-8"))
    images = np.load(VECTORS / "clip_image_embs.npz")
    vectors = unit(np.load(VECTORS / "coco_clip_a+cname.npy").astype(np.float32))
    head = SimilarityHead(HEAD, not_fitted(512, 100.0, 6, 1.0), 100.0, 1.0)
    texts = TextFeatures(vectors, np.zeros((len(vectors), 6), np.float32))
    embedded = head.embed_names(texts)
    expected = {
        "123_456": ("cat", 0.615),
        "208_495": ("surfboard", 0.545),
        "416_264": ("broccoli", 0.416),
        "456_123": ("cat", 0.474),
    }
    for image, (name, score) in expected.items():
        (row,) = np.flatnonzero(images["files"] == image)
        clip = ClipFeatures(unit(images["emb"][row].astype(np.float32)), None)
        distance = head.distances(clip, cosines_of(clip, texts), embedded)
        assert names[int(distance.argmin())] == name
        assert softmax(-distance).max() == pytest.approx(score, abs=1e-3)
