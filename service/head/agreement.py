"""Whether picture and sound of a clip name the same things."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from service.arrays import Array
from service.bundle.head_specs import AgreementScore
from service.encode.features import ClipFeatures
from service.head.head import Cosines, Head, Names
from service.ranking import softmax


@dataclass(frozen=True)
class Agreement:
    """How far both tracks agree about the candidates.

    Attributes:
        score: 0..1, how likely it is that they show the same, if that was as likely as not before; near 1/2
            where one of them tells nothing.
        surer: The track whose first name is likelier by that track alone.
        visual_first: Index of the likeliest name by the picture.
        audio_first: Index of the likeliest name by the sound.
    """

    score: float
    surer: Literal["visual", "audio"]
    visual_first: int
    audio_first: int


def agreement(head: Head[Any, Names], clip: ClipFeatures, cosines: Cosines, names: Names) -> Agreement | None:
    """Compare what each track alone says of n names.

    Args:
        head: Which knows how alike both must be.
        clip: Features.
        cosines: Of the clip to the names.
        names: What the head keeps of them.

    Returns:
        None without both tracks, for a single name, and where the head does not know.
    """
    stored = head.agreement
    visual, audio = head.track_similarities(clip, cosines, names) if stored is not None else (None, None)
    if stored is None or visual is None or audio is None or len(visual) == 1:
        return None
    return compare(visual, audio, stored)


def compare(visual: Array, audio: Array, stored: AgreementScore) -> Agreement:
    """Compare the similarities of both tracks to at least two names.

    With p and q the probabilities of n equally likely names by each track, both tracks show one and the same
    of them n sum(p q) times as likely as they show any two: the Bayes factor of a shared name.

    Args:
        visual: float32 [n], similarity of the picture to each name (`Head.track_similarities`).
        audio: float32 [n], of the sound.
        stored: Temperatures, and what the factor means.
    """
    p = softmax(visual / np.float32(stored.visual_temperature))
    q = softmax(audio / np.float32(stored.audio_temperature))
    factor = log_factor(float(p @ q), len(p))
    beyond = max(-700.0, min(700.0, (factor - stored.threshold) / stored.scale))
    return Agreement(
        score=1 / (1 + math.exp(-beyond)),
        surer="visual" if p.max() >= q.max() else "audio",
        visual_first=int(p.argmax()),
        audio_first=int(q.argmax()),
    )


# Neither track is ever so sure that it can't be wrong.
_DOUBT = 0.01


def log_factor(overlap: float, n_names: int) -> float:
    """ln(n sum(p q)) of n names, where each track is mixed with a little of complete ignorance.

    Args:
        overlap: sum(p q).
        n_names: n.
    """
    # p' = (1 - d) p + d / n, and q' likewise: n sum(p' q') = (1 - d)^2 n sum(p q) + 1 - (1 - d)^2.
    known = (1 - _DOUBT) ** 2
    return math.log(known * n_names * overlap + 1 - known)
