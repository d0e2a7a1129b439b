"""Vectors of clips and names: their dot products are the distances of the head, as its docstrings say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service.arrays import Array
from service.bundle.head_specs import SimilaritySpec
from service.encode.features import ClipFeatures, TextFeatures, unit
from service.head.head import cosines_of
from service.head.similarity import SimilarityHead
from service.head.statistics import SimilarityStatistics
from service.registry import load_bundle
from service.runtime.providers import Runtime
from tests.toy import write_toy_bundle

DIMS = (8, 6)
TRACKS = pytest.mark.parametrize(("sees", "hears"), [(True, True), (True, False), (False, True)])


def _random(n: int, dim: int, seed: int) -> Array:
    return unit(np.random.default_rng(seed).normal(size=(n, dim)).astype(np.float32) + np.float32(0.5))


def _statistics() -> SimilarityStatistics:
    """Of clips whose features vary a thousand times more in one direction than in another."""
    moments = []
    for seed, dim in enumerate(DIMS):
        spread = np.logspace(0, -3, dim).astype(np.float32)
        clips = unit(_random(500, dim, seed) * spread + np.float32(0.2))
        moments += [
            clips.mean(axis=0),
            np.cov(clips.T).astype(np.float32) + 1e-7 * np.eye(dim, dtype=np.float32),
        ]
    return SimilarityStatistics(*moments)


def _clip(dims: tuple[int, int], *, sees: bool, hears: bool) -> ClipFeatures:
    return ClipFeatures(
        _random(1, dims[0], 20)[0] if sees else None, _random(1, dims[1], 21)[0] if hears else None
    )


def _dots_and_distances(
    head: Any, clip: ClipFeatures, texts: TextFeatures, dims: tuple[int, int]
) -> tuple[Array, Array]:
    names = head.embed_names(texts)
    of_clip = head.clip_vector(clip, dims)
    assert len(of_clip) == head.vector_width(dims)
    dots = head.name_vectors(texts, names) @ of_clip
    return dots, head.distances(head.embed_clip(clip), cosines_of(clip, texts), names)


@TRACKS
@pytest.mark.parametrize("statistics", [None, _statistics()], ids=["none", "of clips"])
def test_without_a_network_the_dot_product_is_minus_the_distance(
    statistics: SimilarityStatistics | None, *, sees: bool, hears: bool
) -> None:
    """Whatever tracks the clip has; names have unit length, so cosines order them alike."""
    spec = SimilaritySpec(kind="similarity", statistics=None, visual_share=0.3, n_clips=0)
    head = SimilarityHead(spec, statistics, 100.0, 20.0)
    texts = TextFeatures(_random(40, 8, 10), _random(40, 6, 11))
    dots, distances = _dots_and_distances(head, _clip(DIMS, sees=sees, hears=hears), texts, DIMS)
    np.testing.assert_allclose(dots, -distances, rtol=2e-3, atol=2e-3 * np.abs(distances).max())
    vectors = head.name_vectors(texts, head.embed_names(texts))
    assert vectors.shape == (40, sum(DIMS))
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


def test_the_dot_product_of_two_names_is_the_correlation_of_their_similarities() -> None:
    """Over clips, the mean of both tracks."""
    statistics = _statistics()
    spec = SimilaritySpec(kind="similarity", statistics="statistics.safetensors", visual_share=0.3, n_clips=9)
    head = SimilarityHead(spec, statistics, 1.0, 1.0)
    texts = TextFeatures(_random(3, 8, 10), _random(3, 6, 11))
    vectors = head.name_vectors(texts, head.embed_names(texts))
    expected = np.zeros((3, 3))
    for feature, covariance in (
        (texts.visual, statistics.visual_covariance),
        (texts.audio, statistics.audio_covariance),
    ):
        between = feature @ covariance @ feature.T
        deviations = np.sqrt(np.diag(between))
        expected += between / np.outer(deviations, deviations) / 2
    np.testing.assert_allclose(vectors @ vectors.T, expected, atol=1e-4)


@TRACKS
@pytest.mark.parametrize("raw_weight", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("standardisation", ["none", "per_sample"])
def test_of_the_trained_head_it_is_half_the_mean_of_squares(
    raw_weight: float, standardisation: Any, tmp_path: Path, *, sees: bool, hears: bool
) -> None:
    """Up to a number of the clip; where one of both distances counts the order is that of the distances."""
    path = write_toy_bundle(
        tmp_path / "toy", raw_weight=raw_weight, visual_share=0.3, standardisation=standardisation
    )
    head = load_bundle(path, Runtime(device="cpu")).head
    texts, clip = TextFeatures(_random(30, 3, 10), _random(30, 3, 11)), _clip((3, 3), sees=sees, hears=hears)
    dots, distances = _dots_and_distances(head, clip, texts, (3, 3))
    if raw_weight in (0.0, 1.0):
        squares = distances**2
        np.testing.assert_array_equal(np.argsort(-dots), np.argsort(distances))
    else:
        one, other = (_with_raw_weight(tmp_path, w, standardisation) for w in (0.0, 1.0))
        squares = (1 - raw_weight) * _dots_and_distances(one, clip, texts, (3, 3))[1] ** 2
        squares += raw_weight * _dots_and_distances(other, clip, texts, (3, 3))[1] ** 2
        order = np.argsort(np.argsort(distances)), np.argsort(np.argsort(-dots))
        assert np.corrcoef(*order)[0, 1] > 0.9
    shifts = dots + squares / 2
    np.testing.assert_allclose(shifts, shifts.mean(), atol=1e-3)


def _with_raw_weight(folder: Path, raw_weight: float, standardisation: Any) -> Any:
    path = write_toy_bundle(
        folder / f"raw-{raw_weight}", raw_weight=raw_weight, visual_share=0.3, standardisation=standardisation
    )
    return load_bundle(path, Runtime(device="cpu")).head
