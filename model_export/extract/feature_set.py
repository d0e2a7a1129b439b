"""A feature set from extracted clips: splits for the clips, text features for their classes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from model_export.data.feature_file import FeatureSet
from model_export.data.gzsl_data import SplitName
from model_export.data.splits import (
    ClassTexts,
    ClipPool,
    choose_splits,
    choosing_problems,
    infer_splits,
    missing_splits,
)
from model_export.errors import DatasetError, Problem
from model_export.extract.extraction import Extracted
from model_export.extract.listing import ListedClip
from service.arrays import Array
from service.encode.text import encode_labels
from service.labels.label import make_label
from service.registry import Bundle


def split_clips(
    source: Path, clips: Sequence[ListedClip], seed: int, unseen: Sequence[str]
) -> list[SplitName | None]:
    """A split for each clip: as listed, else chosen by the seed; None where a class is too small.

    Raises:
        DatasetError: These clips can't be split so that a head can be trained and measured.
    """
    labels = [clip.label for clip in clips]
    given = [clip.split for clip in clips if clip.split is not None]
    if not given:
        problems = choosing_problems(labels, unseen)
    elif unseen:
        problems = [Problem("unseen", "the column split already decides it; use one of the two")]
    else:
        problems = missing_splits(infer_splits(labels, given))
    if problems:
        raise DatasetError(source, problems)
    return [*infer_splits(labels, given)] if given else choose_splits(labels, seed, unseen)


def assemble(
    extracted: Extracted, splits: Sequence[SplitName | None], bundle: Bundle, name: str
) -> FeatureSet:
    """Join extracted clips, their splits and the text features of their classes.

    Args:
        extracted: At least one clip of each split.
        splits: Of the clips.
        bundle: Bundle that made the features; its own templates are used.
        name: Of the data set.
    """
    manifest = bundle.manifest
    labels = tuple(clip.label for clip in extracted.clips)
    pool = ClipPool(
        visual=_rows([one.visual for one in extracted.features], manifest.visual.dim),
        audio=_rows([one.audio for one in extracted.features], manifest.audio.dim),
        labels=labels,
        names=tuple(clip.name for clip in extracted.clips),
    )
    classes = sorted(set(labels))
    texts = encode_labels(bundle.encoders, [make_label(label) for label in classes])
    known = ClassTexts(tuple(classes), texts.visual, texts.audio)
    return pool.assign(splits, known, name=name, encoders=manifest.encoders_digest())


def _rows(features: Sequence[Array | None], dim: int) -> Array:
    """One row a clip; zeros for a missing track."""
    none = np.zeros(dim, np.float32)
    return np.stack([none if one is None else one for one in features])
