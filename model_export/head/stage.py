"""Train one stage: epochs of class-balanced batches, measured and saved after each."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import torch
from torch import Tensor
from torch.optim import Adam
from torch.optim.lr_scheduler import ReduceLROnPlateau

from model_export.errors import RunError
from model_export.head.batches import StageTensors
from model_export.head.calibration import best_beta
from model_export.head.checkpoint import Progress, restore_checkpoint, save_checkpoint, write_atomically
from model_export.head.config import HeadConfig
from model_export.head.inputs import StageInputs
from model_export.head.network import HeadNetwork
from model_export.head.objective import loss_terms
from model_export.head.ranking import rank_embedding
from model_export.head.statistics import exact_statistics

PLATEAU_PATIENCE: Final = 3
PLATEAU_FACTOR: Final = 0.1
StageNumber = Literal[1, 2]
Reporter = Callable[[StageNumber, int, int], None]  # stage, steps done, steps in all
Record = dict[str, Any]


@dataclass(frozen=True)
class StageResult:
    """A trained stage.

    Attributes:
        network: in evaluation mode, with the weights of the best epoch (stage 1) or of the last (stage 2).
        history: one record per epoch.
        best_epoch: counted from 0; -1 in stage 2.
    """

    network: HeadNetwork
    history: list[Record]
    best_epoch: int

    def lrs_to_best(self) -> list[float]:
        """The learning rate of each epoch up to the best one."""
        return [record["lr"] for record in self.history[: self.best_epoch + 1]]


def train_stage(
    config: HeadConfig,
    stage: StageTensors,
    number: StageNumber,
    out: Path,
    report: Reporter,
    lrs: list[float] | None = None,
) -> StageResult:
    """Train one stage, from its checkpoint where there is one.

    Args:
        config: what to train and how.
        stage: features and classes.
        number: 1 or 2.
        out: run folder.
        report: told about each step.
        lrs: learning rate of each epoch; None trains `n_epochs`, measures each on the stage's evaluation
            clips, lowers the rate when their HM stalls, and keeps the best.

    Raises:
        RunError: the loss stopped being finite.
    """
    network = fresh_network(config, stage, number)
    optimizer = Adam(network.parameters(), lr=config.lr, weight_decay=config.weight_decay, fused=True)
    plateau = ReduceLROnPlateau(optimizer, "max", patience=PLATEAU_PATIENCE, factor=PLATEAU_FACTOR)
    inputs = StageInputs.of(stage, network)
    path = checkpoint_path(out, number)
    state = restore_checkpoint(path, network, optimizer, plateau)
    n_epochs, n_batches = len(lrs) if lrs else config.n_epochs, config.n_batches_per_epoch

    for epoch in range(len(state.history), n_epochs):
        if lrs:
            optimizer.param_groups[0]["lr"] = lrs[epoch]
        record: Record = {"stage": number, "epoch": epoch, "lr": optimizer.param_groups[0]["lr"]}
        started = time.monotonic()
        with seeded(config.seed, number, epoch + 1) as seed:
            for step, record["losses"] in enumerate(epoch_steps(network, optimizer, config, inputs, seed), 1):
                report(number, epoch * n_batches + step, n_epochs * n_batches)
        record["losses"] = finite(record["losses"], number, epoch)
        if lrs is None:
            record |= measure(network, config, stage)
            plateau.step(record["harmonic_mean"])
            keep_best(state, network, epoch, record["harmonic_mean"])
        state.history.append(record | {"seconds": round(time.monotonic() - started, 3)})
        save_checkpoint(path, network, optimizer, plateau, state)
        write_metrics(out, number, state.history)

    if lrs is None:
        network.load_state_dict(state.best)
    return StageResult(network.eval(), state.history, state.best_epoch)


def epoch_steps(
    network: HeadNetwork, optimizer: Adam, config: HeadConfig, inputs: StageInputs, seed: int
) -> Iterator[dict[str, Tensor]]:
    """Take the optimiser's steps of one epoch; yields, after each, the mean of every loss term so far."""
    means: dict[str, Tensor] = {}
    network.train()
    for n_before, batch in enumerate(inputs.batches(config, seed)):
        terms = loss_terms(network, config, batch)
        optimizer.zero_grad(set_to_none=True)
        torch.stack(list(terms.values())).sum().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        for name, term in terms.items():
            mean = means.get(name, torch.zeros_like(term))
            means[name] = mean + (term.detach() - mean) / (n_before + 1)
        yield means


def measure(network: HeadNetwork, config: HeadConfig, stage: StageTensors) -> dict[str, float]:
    """S, U, HM and ZSL of the embedding on the stage's evaluation clips, at the best beta."""
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


def finite(losses: dict[str, Tensor], number: StageNumber, epoch: int) -> dict[str, float]:
    """Loss terms as numbers.

    Raises:
        RunError: one of them is NaN or infinite.
    """
    numbers = {name: float(loss) for name, loss in losses.items()}
    if not np.isfinite(list(numbers.values())).all():
        raise RunError(f"the loss of stage {number}, epoch {epoch} is not finite; try a lower learning rate")
    return numbers


def fresh_network(config: HeadConfig, stage: StageTensors, number: StageNumber) -> HeadNetwork:
    """A network with the initial weights that the seed gives for this stage."""
    with seeded(config.seed, number, 0):
        network = HeadNetwork(config, stage.texts.visual.shape[1], stage.texts.audio.shape[1])
    return network.to(stage.seen.device)


def checkpoint_path(out: Path, number: StageNumber) -> Path:
    """Where a stage keeps its state while it trains."""
    return out / f"stage_{number}.checkpoint"


def write_metrics(out: Path, number: StageNumber, history: list[Record]) -> None:
    """Rewrite metrics.jsonl: the first stage's epochs, then the second's."""
    path = out / "metrics.jsonl"
    old = path.read_text(encoding="utf-8").splitlines() if number == 2 and path.exists() else []
    first = [line for line in old if json.loads(line)["stage"] == 1]
    write_atomically(path, "\n".join(first + [json.dumps(record) for record in history]) + "\n")


@contextmanager
def seeded(*parts: int) -> Iterator[int]:
    """Seed torch for a block and give the seed; torch's own state is put back afterwards.

    Every epoch has a seed of its own, so it draws the same wherever training was taken up again.
    """
    seed = int(np.random.SeedSequence(parts).generate_state(1)[0])
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield seed
