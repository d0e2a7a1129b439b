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
from service.ranking import LogSum


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
    overlap = Overlap(head.agreement)
    if head.agreement is not None:
        overlap.add(*head.track_similarities(clip, cosines, names))
    return overlap.agreement()


class Overlap:
    """The comparison of both tracks, with names that come block by block.

    With p and q the probabilities of n equally likely names by each track, both tracks show one and the same
    of them n sum(p q) times as likely as they show any two: the Bayes factor of a shared name.

    Args:
        stored: Temperatures, and what the factor means; None: nothing tells.
    """

    def __init__(self, stored: AgreementScore | None) -> None:
        self._stored = stored
        self._visual, self._audio = LogSum(), LogSum()
        self._products = 0.0

    def add(self, visual: Array | None, audio: Array | None) -> None:
        """Add the similarities of picture and sound to further names (`Head.track_similarities`).

        Args:
            visual: float32 [n]; None without a picture.
            audio: float32 [n]; None without sound.
        """
        if self._stored is None or visual is None or audio is None:
            return
        p, shrunk_p = self._visual.add(visual / np.float32(self._stored.visual_temperature))
        q, shrunk_q = self._audio.add(audio / np.float32(self._stored.audio_temperature))
        self._products = self._products * shrunk_p * shrunk_q + float(p @ q)

    def agreement(self) -> Agreement | None:
        """What all names say; None without both tracks, and for a single name."""
        if self._stored is None or self._visual.n < 2:
            return None
        p_max, q_max = self._visual.largest, self._audio.largest
        factor = log_factor(self._products * p_max * q_max, self._visual.n)
        beyond = max(-700.0, min(700.0, (factor - self._stored.threshold) / self._stored.scale))
        return Agreement(
            score=1 / (1 + math.exp(-beyond)),
            surer="visual" if p_max >= q_max else "audio",
            visual_first=self._visual.first,
            audio_first=self._audio.first,
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
