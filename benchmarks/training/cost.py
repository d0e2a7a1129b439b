"""How long a whole two-stage training run takes, and how much memory.

    python -m benchmarks.training.cost [--size ActivityNet-GZSL] [--preset ahse_paper] [--epochs 15]
        [--threads 2]

Trains on made-up features with the published numbers of classes and clips and the published dimensions, by
the reference's schedule of 300 batches of 64 in each epoch. Time is the wall clock of one run on one machine
and counts training, the measurements after each epoch, calibration and writing the run folder; memory is the
largest resident set of the process, data included.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

import numpy as np
import torch

from model_export.data.gzsl_data import SPLIT_NAMES, GzslData, Indices, SplitFeatures
from model_export.data.published_layout import PUBLISHED_COUNTS
from model_export.head.head_config import PRESETS
from model_export.head.training import train
from service.arrays import Array

N_VISUAL: Final = 512
N_AUDIO: Final = 1024


def main() -> None:
    """Train once and print one line of JSON."""
    options = _options()
    data = made_up(options.size)
    config = PRESETS[options.preset].model_copy(update={"n_epochs": options.epochs})
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        run = train(data, config, Path(folder) / "run", device=options.device, n_threads=options.threads)
        seconds = time.perf_counter() - started
        history = [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]
    stages = [[epoch["seconds"] for epoch in history if epoch["stage"] == number] for number in (1, 2)]
    figures = {
        "size": options.size,
        "preset": options.preset,
        "device": torch.cuda.get_device_name() if options.device == "cuda" else platform.machine(),
        "cores": os.cpu_count(),
        "threads": options.threads,
        "epochs": [len(stage) for stage in stages],
        "seconds_per_epoch": [round(float(np.median(stage)), 2) for stage in stages],
        "seconds": round(seconds, 1),
        "peak_memory_gib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
    }
    sys.stdout.write(json.dumps(figures) + "\n")


def made_up(size: str) -> GzslData:
    """Clips about the text vectors of their classes, as many as were published."""
    random = np.random.default_rng(0)
    (n_train, _), _, (n_val, _), _, (n_test, _) = PUBLISHED_COUNTS[size]
    ends = np.cumsum([n_train, n_val, n_test])
    train, val, test = (
        np.arange(end - n, end) for end, n in zip(ends, (n_train, n_val, n_test), strict=True)
    )
    members = (train, train, val, np.concatenate([train, val]), test)
    text = [random.normal(size=(ends[-1], d)).astype(np.float32) for d in (N_VISUAL, N_AUDIO)]
    counts = (n_clips for _, n_clips in PUBLISHED_COUNTS[size])
    splits = {
        split: _clips(random, text, classes, n_clips)
        for split, classes, n_clips in zip(SPLIT_NAMES, members, counts, strict=True)
    }
    names = tuple(f"class {i}" for i in range(ends[-1]))
    return GzslData(
        f"{size} in size only",
        simulated=True,
        class_names=names,
        text_visual=text[0],
        text_audio=text[1],
        splits=splits,
    )


def _clips(random: np.random.Generator, text: list[Array], classes: Indices, n: int) -> SplitFeatures:
    index = np.resize(classes, n).astype(np.int64)
    tracks = [t[index] + 3 * random.standard_normal((n, t.shape[1]), dtype=np.float32) for t in text]
    return SplitFeatures(tracks[0], tracks[1], index)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", choices=list(PUBLISHED_COUNTS), default="ActivityNet-GZSL")
    parser.add_argument("--preset", choices=list(PRESETS), default="ahse_paper")
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    return parser.parse_args()


if __name__ == "__main__":
    main()
