"""Train a head by the two-stage protocol of the benchmark.

Stage 1 trains on the training classes, measures every epoch on validation and keeps the best. All that can
be chosen is chosen there. Stage 2 starts from scratch on training and validation clips together, for as many
epochs and with the same learning rates as led to the best epoch, and is not measured on the way. The test
clips are not used.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import Tensor
from torch.optim import Adam
from torch.optim.lr_scheduler import ReduceLROnPlateau

from model_export.data.gzsl_data import SINGLE_TRACKS, GzslData, Track
from model_export.data.whole_files import written_whole
from model_export.errors import RunError
from model_export.head.calibration import (
    VISUAL_SHARES,
    Calibration,
    Calibrations,
    calibrate_embedding,
    calibrate_fused,
    calibrate_served,
    fusion_weights,
    rank_calibrated,
)
from model_export.head.conformal import head_limits
from model_export.head.cost import FILE as COST_FILE
from model_export.head.cost import Cost, forget_peak_memory, peak_memory_mib
from model_export.head.distances import (
    StageRanked,
    best_beta,
    fuse_ranked,
    rank_embedding,
    rank_raw,
)
from model_export.head.head_config import HeadConfig
from model_export.head.methods import make_network
from model_export.head.network import HeadNetwork
from model_export.head.run_folder import (
    DataIdentity,
    Record,
    Run,
    RunConfig,
    StageNumber,
    checkpoint_path,
    is_finished,
    open_run_folder,
    remove_checkpoints,
    save_tensors,
    write_atomically,
    write_metrics,
)
from model_export.head.stage_checkpoint import StageState, restore_checkpoint, save_checkpoint
from model_export.head.stage_tensors import StageTensors
from model_export.head.standardisation import Statistics, exact_statistics
from model_export.head.track_agreement import fit_agreement
from model_export.head.training_batches import StageInputs
from model_export.progress import BarProgress, unreported
from service.bundle.guarantees import GUARANTEE_FILE, Guarantees, Limits
from service.process import n_processors

PRODUCTS_PER_THREAD: Final = 50_000_000  # of a forward pass; below, a second thread made no step faster
PLATEAU_PATIENCE: Final = 3
PLATEAU_FACTOR: Final = 0.1


@dataclass(frozen=True)
class StageResult:
    """A trained stage.

    Attributes:
        network: In evaluation mode, with the weights of the best epoch (stage 1) or of the last (stage 2).
        history: One record per epoch.
        best_epoch: Counted from 0; -1 in stage 2.
    """

    network: HeadNetwork
    history: list[Record]
    best_epoch: int

    def lrs_to_best(self) -> list[float]:
        """The learning rate of each epoch up to the best one."""
        return [record["lr"] for record in self.history[: self.best_epoch + 1]]


def train(
    data: GzslData,
    config: HeadConfig,
    out: Path,
    *,
    device: str = "cpu",
    n_threads: int | None = None,
    report: BarProgress = unreported,
) -> Run:
    """Train a head, or continue a run that was stopped, and calibrate it on validation.

    The same data, configuration, seed and number of threads give the same run, however often it was stopped.

    Args:
        data: With all five splits.
        config: What to train and how.
        out: Run folder; made if it is missing, continued if it holds the same run unfinished.
        device: `cpu` or `cuda`.
        n_threads: Of torch; None chooses by the size of a step.
        report: Called after each step with `stage 1` or `stage 2`.

    Raises:
        RunError: The device can't be used, `out` holds something else, or the loss stopped being finite.
    """
    where = usable_device(device)
    torch.set_num_threads(n_threads or threads_for(config, data, n_processors()))
    open_run_folder(out, RunConfig(head=config, data=DataIdentity.of(data)), where)
    if not is_finished(out):
        forget_peak_memory()
        stage_1 = StageTensors.of(data, data.stage(1), where)
        first = train_stage(config, stage_1, 1, out, report)
        stage_2 = StageTensors.of(data, data.stage(2), where)
        second = train_stage(config, stage_2, 2, out, report, first.lrs_to_best())
        finish(out, config, (first, stage_1), (second, stage_2), data)
    remove_checkpoints(out)
    return Run.load(out)


def usable_device(name: str) -> torch.device:
    """The device of that name.

    Raises:
        RunError: It is neither `cpu` nor `cuda`, or torch can't use a GPU here.
    """
    if name not in ("cpu", "cuda"):
        raise RunError(f"--device {name}: give cpu or cuda")
    if name == "cuda" and not torch.cuda.is_available():
        raise RunError(
            "device cuda was asked for, but torch could not start it on this machine; check the driver, its "
            "libraries and that the container was given a GPU, or set the device to cpu"
        )
    return torch.device(name)


def threads_for(config: HeadConfig, data: GzslData, n_available: int) -> int:
    """Threads that a step of this size keeps busy: more would wait for each other, and cost their time."""
    with torch.device("meta"):  # counts weights without making them
        network = make_network(config, data.n_visual, data.n_audio, len(data.stage(2).seen))
    n_weights = sum(weight.numel() for weight in network.parameters())
    n_rows = config.batch_size + len(data.stage(2).seen)
    return max(1, min(n_available, n_weights * n_rows // PRODUCTS_PER_THREAD))


def finish(
    out: Path,
    config: HeadConfig,
    first: tuple[StageResult, StageTensors],
    second: tuple[StageResult, StageTensors],
    data: GzslData,
) -> None:
    """Calibrate on validation with the first stage's head, and write the second's; calibration.json last."""
    network = first[0].network
    calibrations, guarantees = calibrate(network, config, first[1], data)
    history = [*first[0].history, *second[0].history]
    seconds = sum(record["seconds"] for record in history)
    cost = Cost(seconds=seconds, peak_memory_mib=peak_memory_mib(), finished=datetime.now(UTC).date())
    write_atomically(out / COST_FILE, cost.model_dump_json(indent=2))
    save_tensors(out / "stage_1.safetensors", network.state_dict())
    final = second[0].network
    final_statistics = exact_statistics(final, config.standardisation, second[1])
    final.fit(second[1], final_statistics, network)
    save_tensors(out / "head.safetensors", final.state_dict())
    with written_whole(out / "statistics.safetensors") as partial:
        final_statistics.save(partial)
    write_atomically(out / GUARANTEE_FILE, guarantees.model_dump_json())
    write_atomically(out / "calibration.json", calibrations.model_dump_json(indent=2))


def calibrate(
    network: HeadNetwork, config: HeadConfig, stage: StageTensors, data: GzslData
) -> tuple[Calibrations, Guarantees]:
    """Fit all that is fitted to the validation clips, and measure what can be guaranteed of answers."""
    statistics = exact_statistics(network, config.standardisation, stage)
    clips = f"validation clips of {'SIMULATED ' if data.simulated else ''}{data.name}"
    whole = stage.complete()  # clips with one track are served by the calibrations below
    ranked = rank_embedding(network, config, statistics, whole)
    embedding, fused, raw = calibrate_both(config, ranked, statistics, whole, clips)
    limits: list[Limits] = []
    if stage.measures("both"):
        served = fused if config.raw_fusion else embedding
        limits += head_limits(rank_calibrated(ranked, statistics, whole, served), served, "both")
    alone: dict[Track, Calibration] = {}
    for track in SINGLE_TRACKS:
        if statistics.knows(track) and stage.measures(track):
            only = stage.only(track)
            ranked_only = rank_embedding(network, config, statistics, only)
            share = (float(track == "visual"),)
            alone[track] = one = calibrate_served(config, ranked_only, statistics, only, clips, share)
            limits += head_limits(rank_calibrated(ranked_only, statistics, only, one), one, track)
        else:
            alone[track] = unmeasured(raw, track)
    calibrations = Calibrations(
        embedding=embedding,
        fused=fused,
        raw=raw,
        visual=alone["visual"],
        audio=alone["audio"],
        agreement=fit_agreement(statistics, stage) if statistics.knows("both") else None,
    )
    return calibrations, Guarantees(data=clips, limits=tuple(limits))


def calibrate_both(
    config: HeadConfig, ranked: StageRanked, statistics: Statistics, stage: StageTensors, clips: str
) -> tuple[Calibration, Calibration, Calibration]:
    """The rankings by the embedding, fused, and by the raw features, of clips with both tracks."""
    embedding = calibrate_embedding(ranked)
    raw = calibrate_fused(ranked, statistics, stage, raw_weights=(1.0,))
    if statistics.knows("both") and not stage.measures("both"):
        raw = unmeasured(raw, "both")
        return unmeasured(embedding, "both"), raw, raw
    served = calibrate_served(config, ranked, statistics, stage, clips)
    if config.raw_fusion:
        return embedding, served, raw
    return served, calibrate_fused(ranked, statistics, stage), raw


def unmeasured(fitted: Calibration, tracks: Track) -> Calibration:
    """For clips with tracks that no clips had to train on, or to measure seen and unseen classes with.

    What was fitted to clips with other tracks would tell these tracks apart rather than classes: the ranking
    is as it is without beta, and tells nothing of unknown clips.
    """
    share = {"visual": 1.0, "audio": 0.0, "both": VISUAL_SHARES[0]}[tracks]
    nothing = dict.fromkeys(("beta", "unknown_threshold", "seen", "unseen", "harmonic_mean", "zsl"), 0.0)
    return fitted.model_copy(update=nothing | {"visual_share": share, "unknown_scale": 1.0})


def train_stage(
    config: HeadConfig,
    stage: StageTensors,
    number: StageNumber,
    out: Path,
    report: BarProgress,
    lrs: list[float] | None = None,
) -> StageResult:
    """Train one stage, continuing from its checkpoint where there is one.

    Args:
        config: What to train and how.
        stage: Features and classes.
        number: 1 or 2.
        out: Run folder.
        report: Called after each step.
        lrs: Learning rate of each epoch; None trains `n_epochs`, measures each on the stage's evaluation
            clips, lowers the rate when their HM stalls, and keeps the best.

    Raises:
        RunError: The loss stopped being finite.
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
                report(f"stage {number}", epoch * n_batches + step, n_epochs * n_batches)
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
    """Take the optimiser's steps of one epoch, and yield after each the mean of every loss term so far."""
    means: dict[str, Tensor] = {}
    network.train()
    for n_before, batch in enumerate(inputs.batches(config, seed)):
        terms = network.loss_terms(batch)
        optimizer.zero_grad(set_to_none=True)
        torch.stack(list(terms.values())).sum().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        for name, term in terms.items():
            mean = means.get(name, torch.zeros_like(term))
            means[name] = mean + (term.detach() - mean) / (n_before + 1)
        yield means


def measure(network: HeadNetwork, config: HeadConfig, stage: StageTensors) -> dict[str, float]:
    """S, U, HM and ZSL on the evaluation clips, by the ranking that selects epochs, at the best beta.

    On those that have both tracks, on which this ranking is calibrated too.
    """
    stage = stage.complete()
    statistics = exact_statistics(network, config.standardisation, stage)
    network.fit(stage, statistics, None)
    ranked = rank_embedding(network, config, statistics, stage)
    if config.select_by == "served":
        weights, shares = fusion_weights(config, ranked, statistics, stage)
        chosen = calibrate_fused(ranked, statistics, stage, weights, shares)
        raw = rank_raw(statistics, stage, chosen.visual_share)
        ranked = fuse_ranked(ranked, raw, chosen.raw_weight)
    curve = best_beta(ranked)
    best = curve.best()
    return {
        "beta": float(curve.beta[best]),
        "seen": float(curve.seen[best]),
        "unseen": float(curve.unseen[best]),
        "harmonic_mean": float(curve.harmonic[best]),
        "zsl": ranked.zsl(),
    }


def keep_best(state: StageState, network: HeadNetwork, epoch: int, harmonic_mean: float) -> None:
    """Keep a copy of the weights if this epoch is the best so far."""
    if harmonic_mean > state.best_harmonic:
        state.best_epoch, state.best_harmonic = epoch, harmonic_mean
        state.best = {name: tensor.clone() for name, tensor in network.state_dict().items()}


def finite(losses: dict[str, Tensor], number: StageNumber, epoch: int) -> dict[str, float]:
    """Loss terms as numbers.

    Raises:
        RunError: One of them is NaN or infinite.
    """
    numbers = {name: float(loss) for name, loss in losses.items()}
    if not np.isfinite(list(numbers.values())).all():
        raise RunError(f"the loss of stage {number}, epoch {epoch} is not finite; try a lower learning rate")
    return numbers


def fresh_network(config: HeadConfig, stage: StageTensors, number: StageNumber) -> HeadNetwork:
    """A network with the initial weights of this stage and seed."""
    with seeded(config.seed, number, 0):
        dims = (stage.texts.visual.shape[1], stage.texts.audio.shape[1])
        network = make_network(config, *dims, len(stage.seen))
    return network.to(stage.seen.device)


@contextmanager
def seeded(*parts: int) -> Iterator[int]:
    """Seed torch for a block and give the seed; torch's own state is put back afterwards.

    Every epoch has a seed of its own: a run that was stopped and continued draws the same numbers.
    """
    seed = int(np.random.SeedSequence(parts).generate_state(1)[0])
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield seed
