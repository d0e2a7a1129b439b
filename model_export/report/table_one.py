"""Table I, Table II and the pictures of the paper on one data set: trained, measured and written by one call.

What it leaves in its folder; with the same arguments a stopped comparison goes on:

    tuning/<row>.json          what each row chose from, and what it chose
    runs/<row>/seed_<s>/       the run of each seed
    report.html, .md, .json    tables with the published numbers beside them, and pictures
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch

from model_export.data.gzsl_data import GzslData
from model_export.head.head_config import PRESETS, HeadConfig, ablation
from model_export.head.run_folder import Run
from model_export.head.training import threads_for, train
from model_export.head.tuning import CHOSEN, n_tries, tune
from model_export.progress import BarProgress, Progress, unreported
from model_export.report.measurements import EVALUATION, MeasuredRun, measure
from model_export.report.report_files import write_report
from service.process import n_processors

_ABLATION = ablation(PRESETS["ahse_paper"])
ROWS: Final[dict[str, HeadConfig]] = {
    **PRESETS,
    "es_only": _ABLATION["ES only"],
    "ha_only": _ABLATION["HA only"],
}
"""By name of the preset; the last two are rows of Table II only."""


# Reading what was kept takes less.
_KEPT_S = 1.0


@dataclass(frozen=True)
class Report:
    """Who is told how far the comparison is.

    Attributes:
        line: Called with a line of text after each training.
        bars: Called after each step, with `tuning`, `stage 1` or `stage 2`.
    """

    line: Progress
    bars: BarProgress = unreported


@dataclass(frozen=True)
class Plan:
    """What is trained.

    Attributes:
        rows: Names from ROWS.
        seeds: Paired: every row trains each of them.
        n_batches: In an epoch, of every row and in tuning too; None: as tuning has it.
        n_threads: Of torch; None chooses by the size of a step.
    """

    rows: Sequence[str]
    seeds: Sequence[int]
    n_batches: int | None = None
    n_threads: int | None = None


def compare(data: GzslData, out: Path, plan: Plan, report: Report) -> None:
    """Tune every row in the same way, train each seed of it, measure, and write the report.

    Args:
        data: To train and measure on.
        out: Folder of all that is written.
        plan: Rows, seeds and steps.
        report: Told of the progress.

    Raises:
        RunError: The folder holds runs of other settings or other data.
    """
    clock = _Clock(sum(n_tries(ROWS[row]) + 2 * len(plan.seeds) for row in plan.rows))
    measured: list[MeasuredRun] = []
    for row in plan.rows:
        torch.set_num_threads(plan.n_threads or threads_for(ROWS[row], data, n_processors()))
        config = tune(ROWS[row], data, out / "tuning" / f"{row}.json", plan.n_batches, report.bars)
        clock.did(n_tries(ROWS[row]))
        chosen = ", ".join(f"{name} {value}" for name, value in config.model_dump(include=CHOSEN).items())
        report.line(f"{row}: {chosen}{clock.left()}")
        for seed in plan.seeds:
            path = out / "runs" / row / f"seed_{seed}"
            one = config.model_copy(update={"seed": seed})
            train(data, one, path, n_threads=plan.n_threads, report=report.bars)
            clock.did(2)
            measured.append(_measured(path, data))
            accuracy = measured[-1].of("embedding").accuracy
            figures = f"HM {accuracy.harmonic_mean:.1f}, ZSL {accuracy.zsl:.1f}"
            report.line(f"{row}, seed {seed}: {figures}{clock.left()}")
    write_report(measured, out)


def _measured(path: Path, data: GzslData) -> MeasuredRun:
    return MeasuredRun.load(path) if (path / EVALUATION).is_file() else measure(Run.load(path), data)


class _Clock:
    """Estimates the time left from what stages took; those that were kept from an earlier call took none."""

    def __init__(self, n_stages: int) -> None:
        self._n_left, self._n_done = n_stages, 0
        self._seconds, self._last = 0.0, time.monotonic()

    def did(self, n: int) -> None:
        """So many stages are done."""
        now = time.monotonic()
        seconds, self._last = now - self._last, now
        self._n_left -= n
        if seconds > _KEPT_S:
            self._n_done += n
            self._seconds += seconds

    def left(self) -> str:
        """In words; nothing where nothing is left, or nothing is known yet."""
        if not self._n_left or not self._n_done:
            return ""
        return f" (about {self._seconds / self._n_done * self._n_left / 60:.0f} min left)"
