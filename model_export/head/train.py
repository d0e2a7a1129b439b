"""Train a head by the two-stage protocol of the benchmark.

Stage 1 trains on the training classes, measures every epoch on validation and keeps the best. All that can
be chosen is chosen there. Stage 2 starts anew on training and validation clips together, for as many epochs
and with the same learning rates as led to the best epoch, and is never measured on the way. The test clips
are not looked at.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from model_export.data.features import GzslData, Track
from model_export.errors import RunError
from model_export.head.batches import StageTensors
from model_export.head.calibration import Calibration, calibrate_embedding, calibrate_fused
from model_export.head.checkpoint import save_tensors, write_atomically
from model_export.head.config import HeadConfig
from model_export.head.network import HeadNetwork
from model_export.head.ranking import rank_embedding
from model_export.head.run import Calibrations, DataIdentity, Run, RunConfig, environment, is_finished
from model_export.head.stage import Reporter, StageNumber, StageResult, checkpoint_path, train_stage
from model_export.head.statistics import Statistics, exact_statistics


def train(
    data: GzslData,
    config: HeadConfig,
    out: Path,
    *,
    device: str = "cpu",
    n_threads: int | None = None,
    show_progress: bool = False,
) -> Run:
    """Train a head, or go on with a run that was stopped, and calibrate it on validation.

    The same data, configuration, seed and number of threads give the same run, however often it was stopped.

    Args:
        data: with all five splits.
        config: what to train and how.
        out: run folder; made if it is missing, gone on with if it holds the same run unfinished.
        device: `cpu` or `cuda`.
        n_threads: of torch; left as it is where None.
        show_progress: show a bar with the time left.

    Raises:
        RunError: `out` holds something else, or the loss stopped being finite.
    """
    if n_threads is not None:
        torch.set_num_threads(n_threads)
    where = torch.device(device)
    begin(out, RunConfig(head=config, data=DataIdentity.of(data)), where)
    if not is_finished(out):
        with progress_bar(enabled=show_progress) as report:
            stage_1 = StageTensors.of(data, data.stage(1), where)
            first = train_stage(config, stage_1, 1, out, report)
            stage_2 = StageTensors.of(data, data.stage(2), where)
            second = train_stage(config, stage_2, 2, out, report, first.lrs_to_best())
        finish(out, config, (first, stage_1), (second, stage_2))
    remove_checkpoints(out)
    return Run.load(out)


def begin(out: Path, config: RunConfig, device: torch.device) -> None:
    """Make the run folder, or make sure that it holds the same run.

    Raises:
        RunError: it holds something else.
    """
    path = out / "config.json"
    if not path.exists():
        if out.exists() and any(not p.name.endswith(".partial") for p in out.iterdir()):
            raise RunError(f"{out} is not empty and holds no run; choose another folder")
        out.mkdir(parents=True, exist_ok=True)
        write_atomically(path, config.model_dump_json(indent=2))
    elif RunConfig.model_validate_json(path.read_text(encoding="utf-8")) != config:
        raise RunError(f"{out} holds a run of other settings or other data; choose another folder")
    if not is_finished(out):
        write_atomically(out / "environment.json", json.dumps(environment(device), indent=2))


def finish(
    out: Path,
    config: HeadConfig,
    first: tuple[StageResult, StageTensors],
    second: tuple[StageResult, StageTensors],
) -> None:
    """Calibrate on validation with the first stage's head, and write the second's; calibration.json last."""
    network, stage = first[0].network, first[1]
    statistics = exact_statistics(network, config.standardisation, stage)
    ranked = rank_embedding(network, config, statistics, stage)
    calibrations = Calibrations(
        embedding=calibrate_embedding(ranked),
        fused=calibrate_fused(ranked, statistics, stage),
        raw=calibrate_fused(ranked, statistics, stage, raw_weights=(1.0,)),
        visual=calibrate_track(network, config, statistics, stage, "visual"),
        audio=calibrate_track(network, config, statistics, stage, "audio"),
    )
    save_tensors(out / "stage_1.safetensors", network.state_dict())
    final = second[0].network
    save_tensors(out / "head.safetensors", final.state_dict())
    exact_statistics(final, config.standardisation, second[1]).save(out / "statistics.safetensors")
    write_atomically(out / "calibration.json", calibrations.model_dump_json(indent=2))


def calibrate_track(
    network: HeadNetwork, config: HeadConfig, statistics: Statistics, stage: StageTensors, track: Track
) -> Calibration:
    """Calibrate for clips that have one track only, on the validation clips without the other."""
    stage = stage.only(track)
    ranked = rank_embedding(network, config, statistics, stage)
    if not config.raw_fusion:
        return calibrate_embedding(ranked)
    return calibrate_fused(ranked, statistics, stage, visual_shares=(float(track == "visual"),))


def remove_checkpoints(out: Path) -> None:
    """Remove what only an unfinished run needs."""
    numbers: tuple[StageNumber, ...] = (1, 2)
    for number in numbers:
        checkpoint_path(out, number).unlink(missing_ok=True)


@contextmanager
def progress_bar(*, enabled: bool) -> Iterator[Reporter]:
    """A progress bar with the time left, or nothing."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, disable=not enabled) as bar:
        numbers: tuple[StageNumber, ...] = (1, 2)
        tasks = {number: bar.add_task(f"stage {number}", total=None) for number in numbers}

        def report(stage: StageNumber, n_done: int, n_steps: int) -> None:
            bar.update(tasks[stage], completed=n_done, total=n_steps)

        yield report
