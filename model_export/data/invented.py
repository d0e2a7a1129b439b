"""A SIMULATED data set of invented classes with random texts, by the law of `simulate`: it needs no file."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Final

import numpy as np

from model_export.data.feature_file import FeatureSet
from model_export.data.gzsl_data import (
    RANDOM_TEXTS,
    SPLIT_NAMES,
    GzslData,
    Indices,
    SplitFeatures,
    SplitName,
)
from model_export.data.simulate import TRACKS, Knobs, World, random_texts

N_TRAIN: Final = 30
N_VALIDATION: Final = 12
N_TEST: Final = 8
"""Classes that are trained on, unseen classes of validation, and unseen classes of the test."""


def invent(seed: int, n_clips: int, knobs: Knobs | None = None) -> FeatureSet:
    """Make the data set.

    Args:
        seed: The same arguments give the same features.
        n_clips: Of each class in `train`, `val_unseen` and `test_unseen`; a third of it in the others.
        knobs: How features are made up.
    """
    knobs = knobs or Knobs()
    n_classes = N_TRAIN + N_VALIDATION + N_TEST
    texts = list(random_texts(n_classes, np.random.default_rng([seed, len(TRACKS)])))
    worlds = [World.of(text, np.random.default_rng([seed, i]), knobs) for i, text in enumerate(texts)]
    classes = np.arange(n_classes, dtype=np.int64)
    train, validation, test = np.split(classes, [N_TRAIN, N_TRAIN + N_VALIDATION])
    members = (train, train, validation, classes[: N_TRAIN + N_VALIDATION], test)
    splits = {
        split: _clips(split, ids, n_clips, worlds, seed)
        for split, ids in zip(SPLIT_NAMES, members, strict=True)
    }
    data = GzslData(
        name="invented classes",
        simulated=True,
        class_names=tuple(f"invented class {i:02}" for i in range(n_classes)),
        text_visual=texts[0].astype(np.float32),
        text_audio=texts[1].astype(np.float32),
        splits=splits,
        encoders="simulated",
        law=json.dumps([RANDOM_TEXTS, asdict(knobs)], sort_keys=True),
    )
    names = {split: tuple(f"{split}_{i:04}" for i in range(len(clips))) for split, clips in splits.items()}
    return FeatureSet(data, names)


def _clips(split: SplitName, ids: Indices, n_clips: int, worlds: list[World], seed: int) -> SplitFeatures:
    n = max(1, n_clips // 3) if split.endswith("_seen") else n_clips
    draws = [np.random.default_rng([seed, len(TRACKS) + 1, SPLIT_NAMES.index(split), c]) for c in ids]
    visual, audio = (
        np.concatenate([world.clips(c, n, random) for c, random in zip(ids, draws, strict=True)])
        for world in worlds
    )
    return SplitFeatures(visual, audio, np.repeat(ids, n))
