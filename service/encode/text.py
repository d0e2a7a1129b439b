"""Encode labels: all prompts of a label are encoded and averaged to one feature vector per track."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

import numpy as np

from service.arrays import Array
from service.encode.encoders import Encoder, Encoders, run_in_parallel, text_outputs
from service.encode.features import TextFeatures, pool
from service.encode.tokens import Tokens
from service.labels.label import Label, fill

# Prompts that are handed to a text graph at once; queues divide them further (service/batch).
_PROMPTS_PER_BATCH = 256
# Prompts that are tokenised at once: what the tokenizer keeps of a text takes a hundred times its length.
_PROMPTS_PER_TOKENISATION = 2_048


def encode_labels(
    encoders: Encoders, labels: Sequence[Label], templates: Sequence[str] | None = None
) -> TextFeatures:
    """Text features of each label for both tracks.

    Args:
        encoders: The text encoders, with their default templates.
        labels: The labels, at least one.
        templates: Prompt templates for both tracks that replace the default ones.
    """
    visual, audio = encoders.manifest.visual.text, encoders.manifest.audio.text
    if encoders.manifest.shares_text:
        return _encode_for_both(encoders, labels, templates or visual.templates)
    of_visual, of_audio = run_in_parallel(
        lambda: _encode(encoders.text_visual, encoders.tokens_visual, labels, templates or visual.templates),
        lambda: _encode(encoders.text_audio, encoders.tokens_audio, labels, templates or audio.templates),
    )
    return TextFeatures(_pooled(of_visual), _pooled(of_audio))


def _encode_for_both(encoders: Encoders, labels: Sequence[Label], templates: Sequence[str]) -> TextFeatures:
    """Text features from one graph that serves both tracks: each row has its outputs, concatenated."""
    groups = _encode(encoders.text_visual, encoders.tokens_visual, labels, templates)
    ends = np.cumsum(list(text_outputs(encoders.manifest).values()))[:-1]
    visual, audio, *further = zip(*(np.split(rows, ends, axis=1) for rows in groups), strict=True)
    known = encoders.manifest.known_names
    nearness = None if known is None else _nearness(labels, templates, further[0], known.alphabets)
    return TextFeatures(_pooled(visual), _pooled(audio), nearness)


def _nearness(
    labels: Sequence[Label], templates: Sequence[str], cosines: Sequence[Array], alphabets: Sequence[str]
) -> Array:
    """Nearness of each label, float32 [n]: the maximum over its prompts, since one familiar prompt is enough.

    Prompts with letters of alphabets that the encoder was not trained with count as -1: their cosines mean
    nothing.
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
    """Whether a character belongs to one alphabet; modifier letters (Lm), such as the okina, go with any."""
    return character.isalpha() and unicodedata.category(character) != "Lm"


def _alphabet(letter: str) -> str:
    """The first word of the Unicode name of a letter: LATIN, CYRILLIC, CJK ..."""
    return unicodedata.name(letter, "").split(" ")[0]


def prompts_of(label: Label, templates: Sequence[str]) -> list[str]:
    """The prompts of a label: its own, or the templates, with the name filled in."""
    return [fill(text, label.name) for text in label.prompts or templates]


def _encode(graph: Encoder, tokens: Tokens, labels: Sequence[Label], templates: Sequence[str]) -> list[Array]:
    """Output of the graph for the prompts of each label: float32 [n_prompts, width] each."""
    prompts = [prompts_of(label, templates) for label in labels]
    texts = [prompt for group in prompts for prompt in group]
    rows = np.concatenate(
        [
            _encode_texts(graph, tokens, texts[first : first + _PROMPTS_PER_TOKENISATION])
            for first in range(0, len(texts), _PROMPTS_PER_TOKENISATION)
        ]
    )
    return np.split(rows, np.cumsum([len(group) for group in prompts])[:-1])


def _encode_texts(graph: Encoder, tokens: Tokens, texts: Sequence[str]) -> Array:
    """Output of the graph for texts, in their order: float32 [n, width]."""
    places, batches = zip(*tokens.batches(texts, _PROMPTS_PER_BATCH), strict=True)
    outputs = np.concatenate([graph(tokens=ids) for ids in batches])
    rows = np.empty_like(outputs)
    rows[np.concatenate(places)] = outputs
    return rows


def _pooled(groups: Sequence[Array]) -> Array:
    return np.stack([pool(rows) for rows in groups])
