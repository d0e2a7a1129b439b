"""A data set small enough to train on within a second: clip features are text features with noise."""

import numpy as np

from model_export.data.gzsl_data import GzslData, Indices, SplitFeatures

N_VISUAL, N_AUDIO = 12, 20
TRAIN, VAL, TEST = np.arange(0, 6), np.arange(6, 9), np.arange(9, 12)


def small_world(seed: int = 0, noise: float = 0.2, n_clips: int = 8) -> GzslData:
    """12 classes: 6 trained on, 3 for validation, 3 for the test; `n_clips` of each in every split."""
    random = np.random.default_rng(seed)
    text = [random.normal(size=(12, size)).astype(np.float32) for size in (N_VISUAL, N_AUDIO)]

    def clips(classes: Indices) -> SplitFeatures:
        index = np.repeat(classes, n_clips).astype(np.int64)
        tracks = [t[index] + noise * random.normal(size=(len(index), t.shape[1])) + 0.5 for t in text]
        return SplitFeatures(tracks[0].astype(np.float32), tracks[1].astype(np.float32), index)

    return GzslData(
        name="small world",
        simulated=True,
        class_names=tuple(f"class {i}" for i in range(12)),
        text_visual=text[0],
        text_audio=text[1],
        splits={
            "train": clips(TRAIN),
            "val_seen": clips(TRAIN),
            "val_unseen": clips(VAL),
            "test_seen": clips(np.concatenate([TRAIN, VAL])),
            "test_unseen": clips(TEST),
        },
    )
