"""Whether a head can hurt: many small SIMULATED trainings, each served ranking beside the frozen one.

    python -m benchmarks.training.no_harm [--trainings 200] [--workers 2] [--out docs/results/no_harm]

The data sets differ in seed, noise, number of classes and clips. Of every ten one has its text rows permuted,
one has a dead track, and one has two clips for each class. For each the harmonic mean on the test clips is
measured as served and by the frozen encoders alone; the interval of the difference is a bootstrap over the
test classes. A head hurts where the whole 95 % interval is below 0. Nothing here is a real clip.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch

from benchmarks.machine import describe_machine
from model_export.data.gzsl_data import SPLIT_NAMES, GzslData, Reals, SplitFeatures, SplitName
from model_export.data.simulate import Knobs, World
from model_export.head.distances import StageRanked, fuse_ranked, rank_embedding, rank_raw
from model_export.head.gate import Accuracies, resampled_gains
from model_export.head.head_config import PRESETS, HeadConfig
from model_export.head.metrics import harmonic_mean, per_class_accuracy
from model_export.head.run_folder import Run
from model_export.head.stage_tensors import StageTensors
from model_export.head.training import train

SIZES: Final = (32, 48)  # of the visual and the audio features
NOISES: Final = (0.6, 1.0, 1.6, 2.4)
CLASSES: Final = ((20, 12, 10), (40, 16, 12))  # trained on, unseen of validation, unseen of the test
KINDS: Final = ("plain",) * 7 + ("permuted texts", "dead track", "two clips a class")
CONFIG: Final = PRESETS["ahse"].model_copy(update={"n_epochs": 4, "n_batches_per_epoch": 40})
_N_CLIPS = 12


@dataclass(frozen=True)
class Outcome:
    """One training.

    Attributes:
        kind: Of its data.
        noise: Spread of the clips.
        n_classes: Trained on.
        is_open: Whether the head takes part in the ranking.
        text_p: Of the certificate.
        promised: Gain on held-out validation classes, HM; None where there were too few.
        frozen: HM of the frozen encoders on the test clips.
        gain: HM as served less that.
        low: Lower end of its 95 % interval over test classes.
        high: Upper end.
    """

    kind: str
    noise: float
    n_classes: int
    is_open: bool
    text_p: float
    promised: float | None
    frozen: float
    gain: float
    low: float
    high: float


def main() -> None:
    """Train, and write what was found."""
    style = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=style)
    parser.add_argument("--trainings", type=int, default=200)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("build/no_harm"))
    options = parser.parse_args()
    found: list[Outcome] = []
    with ProcessPoolExecutor(options.workers) as pool:
        for one in pool.map(outcome, range(options.trainings)):
            found.append(one)
            sys.stderr.write(f"{len(found)}: {one}\n")
    options.out.mkdir(parents=True, exist_ok=True)
    command = f"python -m benchmarks.training.no_harm --trainings {options.trainings}"
    trainings = [asdict(one) for one in found]
    document = {"command": command, "machine": describe_machine(), "trainings": trainings}
    (options.out / "no_harm.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    (options.out / "README.md").write_text(report(found, command), encoding="utf-8")
    sys.stdout.write(report(found, command))
    if hurt := sum(one.high < 0 for one in found):
        raise SystemExit(f"{hurt} heads hurt")


def outcome(number: int) -> Outcome:
    """Make the data set of this number, train on it, and compare both rankings on its test clips."""
    kind, noise = KINDS[number % len(KINDS)], NOISES[number // len(KINDS) % len(NOISES)]
    sizes = CLASSES[number // (len(KINDS) * len(NOISES)) % len(CLASSES)]
    data = simulated(number, kind, noise, sizes)
    with tempfile.TemporaryDirectory() as folder:
        config = HeadConfig.model_validate(CONFIG.model_dump() | {"seed": number})
        run = train(data, config, Path(folder) / "run", n_threads=1)
        stage = StageTensors.of(data, data.stage(2), torch.device("cpu"))
        served, frozen = (accuracies(run, stage, is_served=is_served) for is_served in (True, False))
    certificate = run.calibration.certificate
    assert certificate is not None  # noqa: S101  (the preset fuses)
    gains = resampled_gains(served, frozen)
    return Outcome(
        kind=kind,
        noise=noise,
        n_classes=sizes[0],
        is_open=certificate.is_open,
        text_p=certificate.text_p,
        promised=certificate.gain,
        frozen=100 * harmonic_mean(*(float(part.mean()) for part in frozen)),
        gain=float(gains[0]),
        low=float(np.percentile(gains[1:], 2.5)),
        high=float(np.percentile(gains[1:], 97.5)),
    )


def simulated(seed: int, kind: str, noise: float, sizes: tuple[int, int, int]) -> GzslData:
    """A small data set by the law of `ahse dataset simulate`, with what the kind does to it."""
    random = np.random.default_rng([7, seed])
    texts = [random.normal(size=(sum(sizes), size)) for size in SIZES]
    knobs = Knobs(spread=noise, n_shared_directions=8)
    worlds = [World.of(text, np.random.default_rng([seed, i]), knobs) for i, text in enumerate(texts)]
    ids = np.arange(sum(sizes))
    train_ids, validation, test = np.split(ids, np.cumsum(sizes)[:-1])
    members = (train_ids, train_ids, validation, ids[: -sizes[2]], test)
    n_clips = 2 if kind == "two clips a class" else _N_CLIPS
    splits: dict[SplitName, SplitFeatures] = {}
    for name, classes in zip(SPLIT_NAMES, members, strict=True):
        visual, audio = (np.concatenate([w.clips(c, n_clips, random) for c in classes]) for w in worlds)
        if kind == "dead track":
            visual = np.zeros_like(visual)
        splits[name] = SplitFeatures(visual, audio, np.repeat(classes, n_clips).astype(np.int64))
    order = random.permutation(len(ids)) if kind == "permuted texts" else ids
    visual_text, audio_text = (text[order].astype(np.float32) for text in texts)
    names = tuple(f"class {i}" for i in ids)
    return GzslData(
        name="small classes",
        simulated=True,
        class_names=names,
        text_visual=visual_text,
        text_audio=audio_text,
        splits=splits,
    )


def accuracies(run: Run, stage: StageTensors, *, is_served: bool) -> Accuracies:
    """Accuracy of each seen and of each unseen test class, 0..1: [n_seen], [n_unseen]."""
    chosen = run.calibration if is_served else run.calibrations.raw
    ranked = fuse_ranked(
        rank_embedding(run.network, run.config.head, run.statistics, stage),
        rank_raw(run.statistics, stage, chosen.visual_share),
        chosen.raw_weight,
    )
    return _by_class(ranked, chosen.beta, is_seen=True), _by_class(ranked, chosen.beta, is_seen=False)


def _by_class(ranked: StageRanked, beta: float, *, is_seen: bool) -> Reals:
    clips = ranked.seen_clips if is_seen else ranked.unseen_clips
    candidates = ranked.candidates()
    stacked = clips.distances[:, candidates] + beta * np.isin(candidates, ranked.seen)
    found = per_class_accuracy(candidates[stacked.argmin(axis=1)], clips.class_index)
    return np.array(list(found.values())) / 100


def report(found: Sequence[Outcome], command: str) -> str:
    """The figures as Markdown."""
    rows = [_row(kind, [one for one in found if one.kind == kind]) for kind in dict.fromkeys(KINDS)]
    rows.append(_row("all", found))
    permuted = [one for one in found if one.kind == "permuted texts"]
    others = [one for one in found if one.kind != "permuted texts"]
    machine = ", ".join(f"{name} {value}" for name, value in describe_machine().items())
    return f"""# Can a head hurt?

`{command}`, {machine}.

{len(found)} small trainings on SIMULATED data, each served ranking beside that of the frozen encoders alone,
on test clips; HM in points. A head hurts where the whole 95 % interval of the difference (bootstrap over test
classes) is below 0. benchmarks/training/no_harm.py has the settings, no_harm.json every training.

| data | trainings | gate open | frozen HM | gain as served, mean | smallest | largest | heads that hurt |
|---|---|---|---|---|---|---|---|
{chr(10).join(rows)}

Texts in the wrong order are named (p above 0.05) in {_doubtful(permuted)} data sets with permuted texts, and
in {_doubtful(others)} others.
"""


def _doubtful(found: Sequence[Outcome]) -> str:
    return f"{sum(one.text_p > 0.05 for one in found)} of {len(found)}"


def _row(kind: str, found: Sequence[Outcome]) -> str:
    gains = [one.gain for one in found]
    cells = (
        kind,
        len(found),
        sum(one.is_open for one in found),
        f"{np.mean([one.frozen for one in found]):.1f}",
        f"{np.mean(gains):+.2f}",
        f"{min(gains):+.2f}",
        f"{max(gains):+.2f}",
        sum(one.high < 0 for one in found),
    )
    return f"| {' | '.join(map(str, cells))} |"


if __name__ == "__main__":
    main()
