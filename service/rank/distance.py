"""Distances of a clip to names: in the standardised embedding, between the raw features, or both together."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from service.bundle.bundle import Bundle
from service.bundle.manifest import Calibration
from service.encode.features import ClipFeatures, TextFeatures, unit
from service.rank.embed import embed_clip

Array = NDArray[np.float32]


def calibration_of(bundle: Bundle, clip: ClipFeatures) -> Calibration:
    """The stored calibration for clips with these tracks."""
    stored = bundle.manifest.head.calibrations
    if clip.visual is None:
        return stored.audio
    return stored.both if clip.audio is not None else stored.visual


def clip_distances(bundle: Bundle, clip: ClipFeatures, texts: TextFeatures, z: Array) -> Array:
    """(1 - raw_weight) || z_av - z_text ||_2 + raw_weight x distance of the raw features.

    Args:
        bundle: whose head, statistics and calibration are used.
        clip: features of the clip.
        texts: text features of the names, n rows.
        z: float32 [n, dim], standardised embeddings of the names.

    Returns:
        float32 [n].
    """
    raw_weight = np.float32(calibration_of(bundle, clip).raw_weight)
    distance: Array = np.linalg.norm(z - embed_clip(bundle, clip), axis=1)
    if raw_weight:
        distance = (1 - raw_weight) * distance + raw_weight * _raw_distances(bundle, clip, texts)
    return distance


def _raw_distances(bundle: Bundle, clip: ClipFeatures, texts: TextFeatures) -> Array:
    """sqrt(dim) x chord between clip and name by the cosines of both tracks, weighted.

    On a sphere as large as that of embeddings standardised per sample, so that both distances can be added.
    A track that the clip lacks has no weight.
    """
    share, stored = calibration_of(bundle, clip).visual_share, bundle.statistics
    tracks = [
        (
            share,
            clip.visual,
            texts.visual,
            stored.visual_mean,
            stored.text_visual_mean,
        ),
        (
            1 - share,
            clip.audio,
            texts.audio,
            stored.audio_mean,
            stored.text_audio_mean,
        ),
    ]
    cosine, total = np.zeros(len(texts.visual), np.float32), 0.0
    for weight, feature, names, feature_mean, text_mean in tracks:
        if feature is not None:
            cosine = cosine + np.float32(weight) * (unit(names - text_mean) @ unit(feature - feature_mean))
            total += weight
    chord: Array = np.sqrt(np.maximum(0, 2 - 2 * cosine / np.float32(max(total, 1e-12))))
    return np.float32(np.sqrt(bundle.manifest.head.dim)) * chord
