"""What every head can do for ranking, and which one a bundle has."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from service.bundle.bundle import Bundle
from service.bundle.heads import LoadedAhse
from service.encode.features import ClipFeatures, TextFeatures
from service.rank.ahse import AhseRanker
from service.rank.cosines import Cosines
from service.rank.ranking import Scoring
from service.rank.similarity import SimilarityRanker

Array = NDArray[np.float32]


class Ranker(Protocol):
    """From features to distances. Each row depends on itself and on stored numbers only.

    What can be known of a name without a clip is worked out once, by `embed_labels`.
    """

    def embed_labels(self, texts: TextFeatures) -> Array:
        """What the head keeps of each name: float32 [n, width], a function of the name alone."""

    def distances(self, clip: ClipFeatures, cosines: Cosines, embedded: Array) -> Array:
        """Of a clip to names: float32 [n], smaller is better."""

    def scoring(self, clip: ClipFeatures, embedded: Array, /) -> Scoring:
        """How distances of clips with these tracks to these names become probabilities."""


def ranker_of(bundle: Bundle) -> Ranker:
    """The ranker of a bundle's head."""
    head = bundle.head
    if isinstance(head, LoadedAhse):
        return AhseRanker(head)
    return SimilarityRanker(head, bundle.manifest.visual.logit_scale, bundle.manifest.audio.logit_scale)
