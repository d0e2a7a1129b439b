"""Encode names: every prompt of a name through a text encoder, averaged to one vector per modality."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from service.bundle.bundle import Bundle
from service.bundle.graph import Encoder
from service.bundle.tokens import Tokens
from service.encode.both import both
from service.encode.features import TextFeatures, pool
from service.labels.label import Label
from service.labels.templates import fill

# Prompts that run through a text graph at once.
_PROMPTS_PER_BATCH = 64


def encode_labels(
    bundle: Bundle, labels: Sequence[Label], templates: Sequence[str] | None = None
) -> TextFeatures:
    """Text features of each label in both modalities.

    Args:
        bundle: whose text encoders and default templates are used.
        labels: at least one.
        templates: prompt templates for both modalities instead of the bundle's own.
    """
    visual, audio = bundle.manifest.visual.text, bundle.manifest.audio.text
    return TextFeatures(
        *both(
            lambda: _encode(bundle.text_visual, bundle.tokens_visual, labels, templates or visual.templates),
            lambda: _encode(bundle.text_audio, bundle.tokens_audio, labels, templates or audio.templates),
        )
    )


def prompts_of(label: Label, templates: Sequence[str]) -> list[str]:
    """The texts that stand for a label: its own prompts, or each template, with the name in its place."""
    return [fill(text, label.name) for text in label.prompts or templates]


def _encode(
    graph: Encoder, tokens: Tokens, labels: Sequence[Label], templates: Sequence[str]
) -> NDArray[np.float32]:
    prompts = [prompts_of(label, templates) for label in labels]
    ids = tokens([prompt for group in prompts for prompt in group])
    batches = range(0, len(ids), _PROMPTS_PER_BATCH)
    features = np.concatenate([graph(tokens=ids[start : start + _PROMPTS_PER_BATCH]) for start in batches])
    ends = np.cumsum([len(group) for group in prompts])
    return np.stack([pool(group) for group in np.split(features, ends[:-1])])
