"""Train a head by the two-stage protocol of the benchmark.

Stage 1 trains on the training classes, measures every epoch on validation and keeps the best. All that can
be chosen is chosen there. Stage 2 starts anew on training and validation clips together, for as many epochs
and with the same learning rates as led to the best epoch, and is never measured on the way. The test clips
are not looked at.
"""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, Protocol

import numpy as np
import torch
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as ProgressBar
from torch import Tensor
from torch.optim import Adam
from torch.optim.lr_scheduler import ReduceLROnPlateau

from model_export.data.features import GzslData
from model_export.head import checkpoint
from model_export.head.batches import StageTensors, balanced_batches, drop_tracks, fill_missing
from model_export.head.calibration import (
    best_beta,
    calibrate_embedding,
    calibrate_fused,
    rank_embedding,
)
from model_export.head.checkpoint import Progress, save_checkpoint, save_tensors, write_atomically
from model_export.head.config import HeadConfig
from model_export.head.errors import RunError
from model_export.head.network import HeadNetwork
from model_export.head.objective import Batch, loss_terms
from model_export.head.run import Calibrations, DataIdentity, Run, RunConfig, environment, is_finished
from model_export.head.statistics import exact_statistics, fill_features

PLATEAU_PATIENCE: Final = 3
PLATEAU_FACTOR: Final = 0.1
StageNumber = Literal[1, 2]


class Reporter(Protocol):
    """Told about each training step."""

    def __call__(self, stage: StageNumber, step: int, n_steps: int) -> None:
        """Step `step` of `n_steps` of a stage is done."""


@dataclass(frozen=True)
class StageResult:
    """A trained stage.

    Attributes:
        network: with the weights of the best epoch (stage 1) or of the last (stage 2).
        history: one record per epoch.
        best_epoch: counted from 0.
    """

    network: HeadNetwork
    history: list[dict[str, Any]]
    best_epoch: int


def train(
    data: GzslData,
    config: HeadConfig,
    out: Path,
    *,
    device: str = "cpu",
    n_threads: int | None = None,
    progress: bool = False,
) -> Run:
    """Train a head, or go on with a run that was stopped, and calibrate it on validation.

    The same data, configuration, seed and number of threads give the same run, however often it was stopped.

    Args:
        data: with all five splits.
        config: what to train and how.
        out: run folder; made if it is missing, gone on with if it holds the same run unfinished.
        device: `cpu` or `cuda`.
        n_threads: of torch; as it is set where None.
        progress: show a bar with the time left.

    Raises:
        RunError: `out` holds another run, or the loss stopped being finite.
    """
    if n_threads is not None:
        torch.set_num_threads(n_threads)
    begin(out, RunConfig(head=config, data=DataIdentity.of(data)), torch.device(device))
    if is_finished(out):
        return Run.load(out)
    with reporting(enabled=progress) as report:
        stage_1 = StageTensors.of(data, data.stage(1), torch.device(device))
        first = train_stage(config, stage_1, 1, out, report, lrs=None)
        stage_2 = StageTensors.of(data, data.stage(2), torch.device(device))
        lrs = [record["lr"] for record in first.history[: first.best_epoch + 1]]
        second = train_stage(config, stage_2, 2, out, report, lrs=lrs)
    finish(out, config, (first, stage_1), (second, stage_2))
    return Run.load(out)


def begin(out: Path, config: RunConfig, device: torch.device) -> None:
    """Make the run folder, or make sure that it holds the same run."""
    path = out / "config.json"
    if path.exists():
        if RunConfig.model_validate_json(path.read_text(encoding="utf-8")) != config:
            raise RunError(f"{out} holds a run of other settings or other data; choose another folder")
        return
    if out.exists() and any(out.iterdir()):
        raise RunError(f"{out} is not empty and holds no run; choose another folder")
    out.mkdir(parents=True, exist_ok=True)
    write_atomically(out / "environment.json", json.dumps(environment(device), indent=2))
    write_atomically(path, config.model_dump_json(indent=2))


def train_stage(
    config: HeadConfig,
    stage: StageTensors,
    number: StageNumber,
    out: Path,
    report: Reporter,
    lrs: list[float] | None,
) -> StageResult:
    """Train one stage, from its checkpoint where there is one.

    Args:
        config: what to train and how.
        stage: features and classes.
        number: 1 or 2.
        out: run folder.
        report: told about each step.
        lrs: learning rate of each epoch; None trains `n_epochs` and lowers the rate when validation HM stalls.
    """
    with seeded(config.seed, number, 0):
        network = HeadNetwork(config, stage.texts.visual.shape[1], stage.texts.audio.shape[1])
    network.to(stage.seen.device)
    optimizer = Adam(network.parameters(), lr=config.lr, weight_decay=config.weight_decay, fused=True)
    plateau = ReduceLROnPlateau(optimizer, "max", patience=PLATEAU_PATIENCE, factor=PLATEAU_FACTOR)
    path = out / f"stage_{number}.checkpoint"
    state = checkpoint.restore_checkpoint(path, network, optimizer, plateau)

    for epoch in range(len(state.history), len(lrs) if lrs else config.n_epochs):
        if lrs:
            optimizer.param_groups[0]["lr"] = lrs[epoch]
        started, lr = time.monotonic(), optimizer.param_groups[0]["lr"]
        record = {"stage": number, "epoch": epoch, "lr": lr}
        record |= train_epoch(network, optimizer, config, stage, (number, epoch), report)
        if lrs is None:
            record |= measure(network, config, stage)
            plateau.step(record["harmonic_mean"])
            keep_best(state, network, epoch, record["harmonic_mean"])
        record["seconds"] = round(time.monotonic() - started, 3)
        state.history.append(record)
        save_checkpoint(path, network, optimizer, plateau, state)
        write_metrics(out, number, state.history)

    if lrs is None:
        network.load_state_dict(state.best)
    return StageResult(network.eval(), state.history, state.best_epoch)


def train_epoch(
    network: HeadNetwork,
    optimizer: Adam,
    config: HeadConfig,
    stage: StageTensors,
    at: tuple[StageNumber, int],
    report: Reporter,
) -> dict[str, float]:
    """Train one epoch of class-balanced batches; returns the mean of each loss term."""
    number, epoch = at
    seed = derived_seed(config.seed, number, epoch + 1)
    fills, texts = fill_features(stage), stage.texts.of_classes(stage.seen)
    visual, audio = fill_missing(stage.train.visual, fills[0]), fill_missing(stage.train.audio, fills[1])
    class_index = stage.train.class_index.cpu().numpy()
    total: dict[str, Tensor] = {}
    network.train()
    with seeded(config.seed, number, epoch + 1):
        batches = balanced_batches(class_index, seed, config.n_batches_per_epoch, config.batch_size)
        for step, (rows, target) in enumerate(batches, start=1):
            v, a, y = visual[rows], audio[rows], target.to(visual.device)
            if config.modality_dropout:
                chance = torch.rand(len(rows)).to(visual.device)
                v, a = drop_tracks(v, a, fills, chance, config.modality_dropout)
            terms = loss_terms(network, config, Batch(v, a, y, texts))
            optimizer.zero_grad(set_to_none=True)
            torch.stack(list(terms.values())).sum().backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            total = {name: total.get(name, 0.0) + term.detach() for name, term in terms.items()}
            report(
                number,
                epoch * config.n_batches_per_epoch + step,
                config.n_epochs * config.n_batches_per_epoch,
            )
    means = {f"loss_{name}": float(term) / config.n_batches_per_epoch for name, term in total.items()}
    if not all(np.isfinite(value) for value in means.values()):
        raise RunError(f"the loss of stage {number}, epoch {epoch} is not finite; try a lower learning rate")
    return means


def measure(network: HeadNetwork, config: HeadConfig, stage: StageTensors) -> dict[str, float]:
    """S, U, HM and ZSL on the stage's evaluation clips at the best beta, with exact statistics."""
    statistics = exact_statistics(network, config.standardisation, stage)
    ranked = rank_embedding(network, config, statistics, stage)
    curve = best_beta(ranked)
    best = curve.best()
    return {
        "beta": float(curve.beta[best]),
        "seen": float(curve.seen[best]),
        "unseen": float(curve.unseen[best]),
        "harmonic_mean": float(curve.harmonic[best]),
        "zsl": ranked.zsl(),
    }


def keep_best(state: Progress, network: HeadNetwork, epoch: int, harmonic_mean: float) -> None:
    """Remember the weights if this epoch is the best so far."""
    if harmonic_mean > state.best_harmonic:
        state.best_epoch, state.best_harmonic = epoch, harmonic_mean
        state.best = {name: tensor.clone() for name, tensor in network.state_dict().items()}


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
        embedding=calibrate_embedding(ranked), fused=calibrate_fused(ranked, statistics, stage)
    )
    save_tensors(out / "stage_1.safetensors", network.state_dict())
    save_tensors(out / "head.safetensors", second[0].network.state_dict())
    exact_statistics(second[0].network, config.standardisation, second[1]).save(
        out / "statistics.safetensors"
    )
    write_atomically(out / "calibration.json", calibrations.model_dump_json(indent=2))
    for number in (1, 2):
        (out / f"stage_{number}.checkpoint").unlink()


def write_metrics(out: Path, number: StageNumber, history: list[dict[str, Any]]) -> None:
    """Rewrite metrics.jsonl: the first stage's epochs, then the second's."""
    path = out / "metrics.jsonl"
    old = path.read_text(encoding="utf-8").splitlines() if number == 2 and path.exists() else []
    kept = [line for line in old if json.loads(line)["stage"] == 1]
    write_atomically(path, "\n".join(kept + [json.dumps(record) for record in history]) + "\n")


def derived_seed(*parts: int) -> int:
    """One seed from several numbers, so that every epoch draws alike wherever training was taken up."""
    return int(np.random.SeedSequence(parts).generate_state(1)[0])


@contextmanager
def seeded(*parts: int) -> Iterator[None]:
    """Seed torch for a block, and put its state back afterwards."""
    with torch.random.fork_rng():
        torch.manual_seed(derived_seed(*parts))
        yield


@contextmanager
def reporting(*, enabled: bool) -> Iterator[Reporter]:
    """A progress bar with the time left, or nothing."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with ProgressBar(*columns, disable=not enabled) as bar:
        tasks = {number: bar.add_task(f"stage {number}", total=None) for number in (1, 2)}

        def report(stage: StageNumber, step: int, n_steps: int) -> None:
            bar.update(tasks[stage], completed=step, total=n_steps)

        yield report
