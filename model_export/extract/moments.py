"""Moments of unlabelled clips' features: what similarity to any name is standardised by."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
from sklearn.covariance import ledoit_wolf

from model_export.errors import DatasetError, Problem
from model_export.extract.listing import ListedClip, Listing
from service.bundle.similarity import SimilarityStatistics
from service.encode.features import Array, ClipFeatures

MIN_CLIPS: Final = 20
"""With fewer, the deviation of a similarity is off by more than a sixth (1 / sqrt(2 n))."""


def list_unlabelled(folder: Path) -> Listing:
    """Every file in a folder and below that is not hidden; what is no media is passed over later.

    Raises:
        DatasetError: there is no such folder.
    """
    if not folder.is_dir():
        raise DatasetError(folder, [Problem(str(folder), "no such folder of clips")])
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    shown = [path for path in paths if not any(p.startswith(".") for p in path.relative_to(folder).parts)]
    clips = tuple(ListedClip(path, path.relative_to(folder).as_posix(), label="") for path in shown)
    return Listing(clips, from_folder=True, n_ignored=len(paths) - len(shown))


def fit(features: Sequence[ClipFeatures], source: Path) -> SimilarityStatistics:
    """Mean and covariance of both tracks' features, each over the clips that have the track.

    The covariance is shrunk towards a round one as far as the number of clips asks for (Ledoit and Wolf,
    J. Multivariate Analysis 2004), so that no direction that few clips happened to leave empty counts as
    certain.

    Args:
        features: of the clips.
        source: folder of the clips, for the error.

    Raises:
        DatasetError: fewer than MIN_CLIPS clips have a picture, or sound.
    """
    visual = [one.visual for one in features if one.visual is not None]
    audio = [one.audio for one in features if one.audio is not None]
    problems = [
        Problem(source.name, f"{len(rows)} of its clips have {what}; it takes at least {MIN_CLIPS}")
        for what, rows in (("a picture", visual), ("sound", audio))
        if len(rows) < MIN_CLIPS
    ]
    if problems:
        raise DatasetError(source, problems)
    return SimilarityStatistics(*_moments(visual), *_moments(audio))


def _moments(rows: Sequence[Array]) -> tuple[Array, Array]:
    stacked = np.stack(rows).astype(np.float64)
    covariance, _ = ledoit_wolf(stacked)
    return stacked.mean(axis=0).astype(np.float32), covariance.astype(np.float32)
