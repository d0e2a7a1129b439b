"""Equal tuning: every method chooses in the same way, before any test clip is looked at.

First between learning rates, with the epochs that each needs, and, where the method has logits, their scale;
then, where there is an alignment loss, between values of lambda. It chooses by the validation HM of one
first stage. All methods get the same batches and the same choice of epochs, whatever their own publication
trained.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any, Final

import torch

from model_export.data.gzsl_data import GzslData
from model_export.errors import RunError
from model_export.head.head_config import HeadConfig
from model_export.head.run_folder import write_atomically
from model_export.head.stage_tensors import StageTensors
from model_export.head.training import train_stage
from model_export.progress import BarProgress, unreported

SCHEDULES: Final = ({"lr": 1e-3, "n_epochs": 6}, {"lr": 3e-4, "n_epochs": 10}, {"lr": 1e-4, "n_epochs": 15})
STEPS: Final = {"n_batches_per_epoch": 300, "batch_size": 64}
LOGIT_SCALES: Final = ({"logit_scale": "inverse_sqrt"}, {"logit_scale": "reference"})
LAMBDAS: Final = tuple({"align_weight": weight} for weight in (1.0, 10.0, 0.1, 0.01))
TUNING_SEED: Final = 100
CHOSEN: Final = {"lr", "n_epochs", "logit_scale", "align_weight"}
"""Settings that tuning may choose."""

Choice = dict[str, Any]


def rounds(config: HeadConfig) -> Iterator[list[Choice]]:
    """What a method may choose from, round by round; lambda only where it has a meaning."""
    if not _has_logits(config):
        yield [dict(schedule) for schedule in SCHEDULES]
        return
    yield [schedule | scale for schedule, scale in product(SCHEDULES, LOGIT_SCALES)]
    if config.align_semantic or config.align_class or config.align_batch:
        yield list(LAMBDAS)


def _has_logits(config: HeadConfig) -> bool:
    """Whether the method's cross entropy has the scale of CLIP-CLAP's logits."""
    return config.method in ("clip_clap", "ez_avood")


def n_tries(config: HeadConfig) -> int:
    """How many first stages `tune` trains; the first value of lambda was tried in the round before."""
    sizes = [len(choices) for choices in rounds(config)]
    return sizes[0] + sum(size - 1 for size in sizes[1:])


def tune(
    config: HeadConfig,
    data: GzslData,
    path: Path,
    n_batches: int | None = None,
    report: BarProgress = unreported,
) -> HeadConfig:
    """The configuration with the highest validation HM.

    Args:
        config: Of the method; its schedule, number of steps, logit scale and lambda are replaced.
        data: To tune on.
        path: JSON file of all tries; those that are there already are not made again.
        n_batches: In an epoch; None: as STEPS has it.
        report: Called after each step of a try, with `tuning`.

    Raises:
        RunError: The file holds the tuning of other data or other settings.
    """
    identity = {"data": data.fingerprint(), "config": _fixed(config)}
    tried = _read_tries(path, identity)
    chosen: Choice = dict(STEPS)
    if n_batches is not None:
        chosen["n_batches_per_epoch"] = n_batches
    if _has_logits(config):
        chosen |= LAMBDAS[0]
    for choices in rounds(config):
        offered = [chosen | one for one in choices]
        for choice in offered:
            if choice not in [one["choice"] for one in tried]:
                tried.append(
                    {"choice": choice, "validation": validate(with_choice(config, choice), data, report)}
                )
                path.parent.mkdir(parents=True, exist_ok=True)
                write_atomically(path, json.dumps(identity | {"tries": tried}, indent=2) + "\n")
        of_round = [one for one in tried if one["choice"] in offered]
        chosen = dict(max(of_round, key=lambda one: float(one["validation"]["harmonic_mean"]))["choice"])
    return with_choice(config, chosen)


def _read_tries(path: Path, identity: dict[str, Any]) -> list[dict[str, Any]]:
    """The tries of an earlier call.

    Raises:
        RunError: They are of other data or other settings.
    """
    if not path.exists():
        return []
    found = json.loads(path.read_text(encoding="utf-8"))
    # A file from before a setting was added was made with its default.
    of_file = {"data": found.get("data"), "config": _fixed(HeadConfig()) | found.get("config", {})}
    if of_file != identity:
        raise RunError(f"{path} holds the tuning of other data or other settings; choose another folder")
    tries: list[dict[str, Any]] = found["tries"]
    return tries


def _fixed(config: HeadConfig) -> dict[str, Any]:
    """The settings that tuning leaves as they are."""
    return config.model_dump(exclude=CHOSEN | {*STEPS, "seed"})


def validate(config: HeadConfig, data: GzslData, report: BarProgress = unreported) -> dict[str, float]:
    """Validation figures at the best epoch of one first stage."""
    stage = StageTensors.of(data, data.stage(1), torch.device("cpu"))

    def of_stage(_: str, n_done: int, n_total: int) -> None:
        report("tuning", n_done, n_total)

    with tempfile.TemporaryDirectory() as folder:
        result = train_stage(config, stage, 1, Path(folder), of_stage)
    best = result.history[result.best_epoch]
    return {key: best[key] for key in ("epoch", "beta", "seen", "unseen", "harmonic_mean", "zsl")}


def with_choice(config: HeadConfig, choice: Choice) -> HeadConfig:
    """A configuration with what was chosen, under the seed of tuning."""
    return HeadConfig.model_validate(config.model_dump() | choice | {"seed": TUNING_SEED})
