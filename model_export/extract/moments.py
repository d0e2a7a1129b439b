"""Mean and covariance of unlabelled clips' features, by which similarity to any name is standardised."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
from sklearn.covariance import ledoit_wolf

from model_export.errors import DatasetError, Problem
from service.arrays import Array
from service.encode.features import ClipFeatures
from service.head.statistics import SimilarityStatistics

MIN_CLIPS: Final = 20
"""With fewer, the error of a similarity's deviation is above a sixth (1 / sqrt(2 n))."""


def fit(features: Sequence[ClipFeatures], source: Path) -> SimilarityStatistics:
    """Mean and covariance of both tracks' features, each over the clips that have the track.

    The covariance is shrunk towards a multiple of the identity, the more the fewer clips there are (Ledoit
    and Wolf, J. Multivariate Analysis 2004): a direction in which few clips happen not to vary must not look
    certain.

    Args:
        features: Of the clips.
        source: Folder of the clips, for the error.

    Raises:
        DatasetError: Fewer than MIN_CLIPS clips have a visual track, or an audio track.
    """
    visual = [one.visual for one in features if one.visual is not None]
    audio = [one.audio for one in features if one.audio is not None]
    problems = [
        Problem(source.name, f"{len(rows)} of its clips have {what}; at least {MIN_CLIPS} are needed")
        for what, rows in (("a visual track", visual), ("an audio track", audio))
        if len(rows) < MIN_CLIPS
    ]
    if problems:
        raise DatasetError(source, problems)
    return SimilarityStatistics(*_moments(visual), *_moments(audio))


def _moments(rows: Sequence[Array]) -> tuple[Array, Array]:
    stacked = np.stack(rows).astype(np.float64)
    covariance, _ = ledoit_wolf(stacked)
    return stacked.mean(axis=0).astype(np.float32), covariance.astype(np.float32)
