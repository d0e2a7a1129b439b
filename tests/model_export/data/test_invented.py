"""Invented data sets: usable as they are, repeatable, and of the simulator's law."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from model_export.data.gzsl_data import data_problems
from model_export.data.invented import N_TEST, N_TRAIN, N_VALIDATION, invent
from model_export.data.simulate import Knobs


def test_an_invented_data_set_is_a_whole_one() -> None:
    """No problem in it, it says SIMULATED, and the same seed gives the same clips."""
    made = invent(3, 6)
    data = made.data
    assert data_problems(data) == []
    assert data.simulated
    assert {split: (len(clips.classes()), len(clips)) for split, clips in data.named_splits()} == {
        "train": (N_TRAIN, 6 * N_TRAIN),
        "val_seen": (N_TRAIN, 2 * N_TRAIN),
        "val_unseen": (N_VALIDATION, 6 * N_VALIDATION),
        "test_seen": (N_TRAIN + N_VALIDATION, 2 * (N_TRAIN + N_VALIDATION)),
        "test_unseen": (N_TEST, 6 * N_TEST),
    }
    assert invent(3, 6).data.fingerprint() == data.fingerprint()
    other = invent(4, 6).data
    assert other.fingerprint() != data.fingerprint()
    assert other.pool() == data.pool()
    assert invent(3, 6, replace(Knobs(), spread=1.0)).data.pool() != data.pool()


def test_unseen_classes_are_recognised_by_their_texts_only_in_part() -> None:
    """Without noise and offset clips lie near their text; the default leaves work to a head."""
    found = []
    for knobs in (Knobs(spread=0.01, class_offset=0), Knobs(text_signal=0)):
        data = invent(0, 9, knobs).data
        clips = data.splits["test_unseen"]
        ids = clips.classes()
        centred = data.text_visual - data.text_visual.mean(0)
        unit = centred / np.linalg.norm(centred, axis=1, keepdims=True)
        features = clips.visual - data.splits["train"].visual.mean(0)
        found.append(float((ids[(features @ unit[ids].T).argmax(1)] == clips.class_index).mean()))
    assert found[0] == 1
    assert found[1] < 0.4
