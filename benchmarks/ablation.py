"""Compare the baseline, the parts of AHSE and the product's default, with equal tuning and paired seeds.

    python -m benchmarks.ablation RUNS DATASET... [--tune-on DATASET] [--seeds 0 1 2 3 4] [--rows full ...]
    python -m benchmarks.ablation RUNS DATASET... --untuned --rows product "product per sample"

Every row chooses in the same way: first between two learning rates, with the epochs that each needs, and two
logit scales, with lambda 1; then, where there is an alignment loss, between four values of lambda. It chooses
by the validation HM of one first stage on the tuning data set (by default the first), before any test clip is
looked at. Then every row trains once for each seed; seed s takes data set s, counted round. With --untuned
nothing is chosen: each row keeps the preset's own settings. Nothing is trained twice: what is in RUNS already
is used, so that a stopped comparison goes on, and rows can be shared out over processes.

Afterwards `ahse evaluate` and `ahse report` make the tables from RUNS/<row>/seed_<s>, and
`python -m benchmarks.pairs` compares two of the rows seed by seed.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any, Final

import torch

from model_export.data.datasets import open_dataset
from model_export.data.gzsl_data import GzslData
from model_export.head.head_config import PRESETS, HeadConfig, ablation
from model_export.head.run_folder import write_atomically
from model_export.head.stage_tensors import StageTensors
from model_export.head.training import train, train_stage

_PAPER: Final = ablation(PRESETS["ahse"])
ROWS: Final = _PAPER | {
    # The other reading of Eq. 1: mean and deviation of each dimension over the training set.
    "per dimension": _PAPER["full"].model_copy(update={"standardisation": "per_dimension"}),
    "product": PRESETS["ahse"],
    # The product without stored statistics.
    "product per sample": PRESETS["ahse"].model_copy(update={"standardisation": "per_sample"}),
}
SCHEDULES: Final = ({"lr": 1e-3, "n_epochs": 6}, {"lr": 1e-4, "n_epochs": 15})
LOGIT_SCALES: Final = ({"logit_scale": "inverse_sqrt"}, {"logit_scale": "reference"})
LAMBDAS: Final = tuple({"align_weight": weight} for weight in (1.0, 10.0, 0.1, 0.01))
TUNING_SEED: Final = 100


def main() -> None:
    """Tune and train the rows that were asked for."""
    options = _options()
    torch.set_num_threads(options.threads)
    chosen = {row: ROWS[row] for row in options.rows}
    if not options.untuned:
        tune_on = open_dataset(options.tune_on or options.datasets[0])
        chosen = {row: tune(row, tune_on, options.runs) for row in options.rows}
    for seed in options.seeds:
        data = open_dataset(options.datasets[seed % len(options.datasets)])
        for row, config in chosen.items():
            train(
                data,
                config.model_copy(update={"seed": seed}),
                options.runs / row.replace(" ", "_") / f"seed_{seed}",
            )
            _print(f"{row}: trained seed {seed}")


def rounds(config: HeadConfig) -> Iterator[list[dict[str, Any]]]:
    """What a row may choose from, round by round; lambda only where it has a meaning."""
    yield [schedule | scale for schedule, scale in product(SCHEDULES, LOGIT_SCALES)]
    if config.align_semantic or config.align_class or config.align_batch:
        yield list(LAMBDAS)


def tune(row: str, data: GzslData, runs: Path) -> HeadConfig:
    """The row's configuration with the highest validation HM; all tries are kept in RUNS/tuning."""
    path = runs / "tuning" / f"{row.replace(' ', '_')}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    tried: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    chosen: dict[str, Any] = dict(LAMBDAS[0])
    for choices in rounds(ROWS[row]):
        for choice in (chosen | one for one in choices):
            if choice not in [one["choice"] for one in tried]:
                tried.append({"choice": choice, "validation": validate(_with(row, choice), data)})
                write_atomically(path, json.dumps(tried, indent=2) + "\n")
                _print(f"{row}: {tried[-1]}")
        chosen = dict(max(tried, key=lambda one: float(one["validation"]["harmonic_mean"]))["choice"])
    return _with(row, chosen)


def validate(config: HeadConfig, data: GzslData) -> dict[str, float]:
    """Validation figures at the best epoch of one first stage."""
    stage = StageTensors.of(data, data.stage(1), torch.device("cpu"))
    with tempfile.TemporaryDirectory() as folder:
        result = train_stage(config, stage, 1, Path(folder), lambda *_: None)
    best = result.history[result.best_epoch]
    return {key: best[key] for key in ("epoch", "beta", "seen", "unseen", "harmonic_mean", "zsl")}


def _with(row: str, choice: dict[str, Any]) -> HeadConfig:
    return HeadConfig.model_validate(ROWS[row].model_dump() | choice | {"seed": TUNING_SEED})


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
