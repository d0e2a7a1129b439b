"""Compare the baseline, the parts of AHSE and the product's default, with equal tuning and paired seeds.

    python -m benchmarks.ablation RUNS DATASET... [--tune-on DATASET] [--seeds 0 1 2 3 4] [--rows AHSE ...]
    python -m benchmarks.ablation RUNS DATASET... --untuned --rows product "product per sample"

Every row chooses in the same way (model_export/head/tuning.py), on the tuning data set, by default the first.
Then every row trains once for each seed; seed s takes data set s, counted round. With --untuned
nothing is chosen: each row keeps the preset's own settings. Nothing is trained twice: what is in RUNS already
is used, so that a stopped comparison goes on, and rows can be shared out over processes.

Afterwards `ahse evaluate` and `ahse report` make the tables from RUNS/<row>/seed_<s>, and
`python -m benchmarks.pairs` compares two of the rows seed by seed.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Final

import torch

from model_export.data.datasets import open_dataset
from model_export.data.gzsl_data import GzslData
from model_export.head.head_config import PRESETS, HeadConfig, ablation
from model_export.head.training import train
from model_export.head.tuning import CHOSEN, tune

_PAPER: Final = ablation(PRESETS["ahse"])
ROWS: Final = _PAPER | {
    # The other reading of Eq. 1: mean and deviation of each dimension over the training set.
    "per dimension": _PAPER["AHSE"].model_copy(update={"standardisation": "per_dimension"}),
    "product": PRESETS["ahse"],
    # The product without stored statistics.
    "product per sample": PRESETS["ahse"].model_copy(update={"standardisation": "per_sample"}),
}


def main() -> None:
    """Tune and train the rows that were asked for."""
    options = _options()
    torch.set_num_threads(options.threads)
    chosen = {row: ROWS[row] for row in options.rows}
    if not options.untuned:
        tune_on = open_dataset(options.tune_on or options.datasets[0])
        chosen = {row: _tuned(row, tune_on, options.runs) for row in options.rows}
    for seed in options.seeds:
        data = open_dataset(options.datasets[seed % len(options.datasets)])
        for row, config in chosen.items():
            train(
                data,
                config.model_copy(update={"seed": seed}),
                options.runs / row.replace(" ", "_") / f"seed_{seed}",
            )
            _print(f"{row}: trained seed {seed}")


def _tuned(row: str, data: GzslData, runs: Path) -> HeadConfig:
    config = tune(ROWS[row], data, runs / "tuning" / f"{row.replace(' ', '_')}.json")
    _print(f"{row}: {config.model_dump(include=CHOSEN)}")
    return config


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", type=Path)
    parser.add_argument("datasets", type=Path, nargs="+")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--tune-on", type=Path)
    how.add_argument("--untuned", action="store_true")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--rows", choices=list(ROWS), nargs="+", default=list(ROWS))
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


def _print(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
