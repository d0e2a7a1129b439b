"""Cosine similarity of a clip to names, track by track: the one pass over the text features of all names."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from service.encode.features import ClipFeatures, TextFeatures

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Cosines:
    """Each track against its own text, as CLIP and CLAP compare them."""

    visual: Array | None
    """float32 [n], -1..1; None when no picture was used."""
    audio: Array | None
    """float32 [n], -1..1; None when no sound was used."""


def cosines_of(clip: ClipFeatures, texts: TextFeatures) -> Cosines:
    """Of a clip to n names; everything else that ranks them works on these 2 n numbers."""
    return Cosines(
        None if clip.visual is None else texts.visual @ clip.visual,
        None if clip.audio is None else texts.audio @ clip.audio,
    )
