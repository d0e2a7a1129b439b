"""Encode names: every prompt of a name through a text encoder, averaged to one vector per modality."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

import numpy as np

from service.arrays import Array
from service.encode.encoders import Encoder, Encoders, both, text_outputs
from service.encode.features import TextFeatures, pool
from service.encode.tokens import Tokens
from service.labels.label import Label, fill

# Prompts that run through a text graph at once.
_PROMPTS_PER_BATCH = 64


def encode_labels(
    encoders: Encoders, labels: Sequence[Label], templates: Sequence[str] | None = None
) -> TextFeatures:
    """Text features of each label in both modalities.

    Args:
        encoders: Whose text encoders and default templates are used.
        labels: at least one.
        templates: prompt templates for both modalities instead of the encoders' own.
    """
    visual, audio = encoders.manifest.visual.text, encoders.manifest.audio.text
    if encoders.manifest.shares_text:
        return _encode_for_both(encoders, labels, templates or visual.templates)
    of_visual, of_audio = both(
        lambda: _encode(encoders.text_visual, encoders.tokens_visual, labels, templates or visual.templates),
        lambda: _encode(encoders.text_audio, encoders.tokens_audio, labels, templates or audio.templates),
    )
    return TextFeatures(_pooled(of_visual), _pooled(of_audio))


def _encode_for_both(encoders: Encoders, labels: Sequence[Label], templates: Sequence[str]) -> TextFeatures:
    """Text features from the one graph that both tracks share: its outputs stand side by side."""
    groups = _encode(encoders.text_visual, encoders.tokens_visual, labels, templates)
    ends = np.cumsum(list(text_outputs(encoders.manifest).values()))[:-1]
    visual, audio, *further = zip(*(np.split(rows, ends, axis=1) for rows in groups), strict=True)
    known = encoders.manifest.known_names
    nearness = None if known is None else _nearness(labels, templates, further[0], known.alphabets)
    return TextFeatures(_pooled(visual), _pooled(audio), nearness)


def _nearness(
    labels: Sequence[Label], templates: Sequence[str], cosines: Sequence[Array], alphabets: Sequence[str]
) -> Array:
    """Of each label, float32 [n]; -1 for prompts with letters of other alphabets: their cosines mean nothing.

    The best known of a label's prompts counts: one that is near to what was trained with is enough.
    """
    return np.array(
        [
            max(
                cosine if _is_readable(prompt, alphabets) else np.float32(-1)
                for prompt, cosine in zip(prompts_of(label, templates), rows[:, 0], strict=True)
            )
            for label, rows in zip(labels, cosines, strict=True)
        ],
        np.float32,
    )


def _is_readable(text: str, alphabets: Sequence[str]) -> bool:
    return not alphabets or all(_alphabet(c) in alphabets for c in text if _is_letter(c))


def _is_letter(character: str) -> bool:
    """Of an alphabet; not what goes with letters of many, such as Hawaiian's okina (Lm)."""
    return character.isalpha() and unicodedata.category(character) != "Lm"


def _alphabet(letter: str) -> str:
    """LATIN, CYRILLIC, CJK ...: the first word of the letter's Unicode name."""
    return unicodedata.name(letter, "").split(" ")[0]


def prompts_of(label: Label, templates: Sequence[str]) -> list[str]:
    """The texts that stand for a label: its own prompts, or each template, with the name in its place."""
    return [fill(text, label.name) for text in label.prompts or templates]


def _encode(graph: Encoder, tokens: Tokens, labels: Sequence[Label], templates: Sequence[str]) -> list[Array]:
    """What the graph gives for each label's prompts: float32 [n_prompts, width] each."""
    prompts = [prompts_of(label, templates) for label in labels]
    ids = tokens([prompt for group in prompts for prompt in group])
    batches = range(0, len(ids), _PROMPTS_PER_BATCH)
    rows = np.concatenate([graph(tokens=ids[start : start + _PROMPTS_PER_BATCH]) for start in batches])
    return np.split(rows, np.cumsum([len(group) for group in prompts])[:-1])


def _pooled(groups: Sequence[Array]) -> Array:
    return np.stack([pool(rows) for rows in groups])
