"""Fuse: features of both tracks to one standardised embedding, for clips and for names."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from service.bundle.bundle import Bundle
from service.encode.features import ClipFeatures, TextFeatures
from service.rank.standardise import standardise

Array = NDArray[np.float32]


def embed_clip(bundle: Bundle, features: ClipFeatures) -> Array:
    """Standardised embedding of a clip, float32 [dim]; a missing track is replaced by the stored fill-in."""
    stored = bundle.statistics
    visual = stored.fill_visual if features.visual is None else features.visual
    audio = stored.fill_audio if features.audio is None else features.audio
    theta = bundle.head_av(visual=visual[None], audio=audio[None])
    z: Array = standardise(theta, stored.av_mean, stored.av_std, bundle.manifest.head.standardisation)[0]
    return z


def embed_labels(bundle: Bundle, features: TextFeatures) -> Array:
    """Standardised embeddings of names, float32 [n, dim]; adding a name never moves another."""
    stored = bundle.statistics
    theta = bundle.head_text(visual=features.visual, audio=features.audio)
    return standardise(theta, stored.text_mean, stored.text_std, bundle.manifest.head.standardisation)
