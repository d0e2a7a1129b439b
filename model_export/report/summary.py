"""Put runs of one method together: mean and standard deviation over seeds."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from model_export.data.features import Track
from model_export.head.config import PAPER_STANDARDISATION, PRESETS, HeadConfig
from model_export.head.evaluation import Evaluation, Ranking
from model_export.report.measured import MeasuredRun

FIGURES: Final[dict[str, Callable[[Evaluation], float]]] = {
    "S": lambda e: e.accuracy.seen,
    "U": lambda e: e.accuracy.unseen,
    "HM": lambda e: e.accuracy.harmonic_mean,
    "ZSL": lambda e: e.accuracy.zsl,
    "beta": lambda e: e.calibration.beta,
    "hubness before": lambda e: e.hubness.theta,
    "hubness": lambda e: e.hubness.ranking,
    "ECE": lambda e: e.calibration_error,
    "unknown AUROC": lambda e: e.unknown_auroc,
    "own-class AUROC": lambda e: e.unknown_auroc_own,
}
PAPER_ROWS: Final = ("baseline", "ES only", "HA only", "AHSE")


@dataclass(frozen=True)
class Figure:
    """One number over seeds.

    Attributes:
        values: one per seed, in the order of the seeds.
    """

    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Over seeds."""
        return float(np.mean(self.values))

    @property
    def std(self) -> float | None:
        """Of a sample (n - 1); None for one seed."""
        return float(np.std(self.values, ddof=1)) if len(self.values) > 1 else None

    def shown(self, digits: int = 2) -> str:
        """`mean ± standard deviation`, or the one value."""
        mean = f"{self.mean:.{digits}f}"
        return mean if self.std is None else f"{mean} ± {self.std:.{digits}f}"


@dataclass(frozen=True)
class Method:
    """Runs that differ in their seed only.

    Attributes:
        name: what it is, extras of this project named.
        runs: in the order of their seeds.
    """

    name: str
    runs: tuple[MeasuredRun, ...]

    @property
    def config(self) -> HeadConfig:
        """Of the first seed."""
        return self.runs[0].config.head

    @property
    def is_paper_row(self) -> bool:
        """Whether it is one of the paper's four rows, without extras."""
        return self.name in PAPER_ROWS

    @property
    def seeds(self) -> tuple[int, ...]:
        """Of the runs."""
        return tuple(run.config.head.seed for run in self.runs)

    def figure(self, name: str, ranking: Ranking = "embedding", track: Track = "both") -> Figure:
        """One of FIGURES over the seeds."""
        return Figure(tuple(FIGURES[name](run.of(ranking, track)) for run in self.runs))


def method_name(config: HeadConfig) -> str:
    """The paper's name of a configuration, followed by whatever the paper does not have."""
    es = config.standardisation != "none"
    terms = {"semantic": config.align_semantic, "class": config.align_class, "batch": config.align_batch}
    ha = all(terms.values())
    name = {(False, False): "baseline", (True, False): "ES only", (False, True): "HA only"}.get(
        (es, ha), "AHSE"
    )
    extras = {
        f"{' and '.join(t for t, on in terms.items() if on)} alignment only": any(terms.values()) and not ha,
        "text geometry": config.geometry_weight > 0,
        "distillation": config.distil_weight > 0,
        "track dropout": config.modality_dropout > 0,
        f"{config.modality} only": config.modality != "both",
        f"{config.text} text only": config.text != "both",
    }
    return " + ".join([name, *(extra for extra, on in extras.items() if on)])


def methods(runs: Sequence[MeasuredRun]) -> tuple[Method, ...]:
    """Group runs by configuration; the paper's rows first, in the paper's order.

    Two configurations with the same name are told apart by their settings; the one that is standardised as
    usual (the paper's rows per sample, others as the product's default) keeps the plain name, if there is
    just one.
    """
    groups: dict[str, list[MeasuredRun]] = {}
    for run in sorted(runs, key=lambda run: run.config.head.seed):
        key = run.config.head.model_copy(update={"seed": 0}).model_dump_json()
        groups.setdefault(key, []).append(run)
    by_name: dict[str, list[tuple[MeasuredRun, ...]]] = {}
    for group in groups.values():
        by_name.setdefault(method_name(group[0].config.head), []).append(tuple(group))
    found = [method for name, alike in by_name.items() for method in _told_apart(name, alike)]
    return tuple(sorted(found, key=lambda m: (not m.is_paper_row, _rank(m.name), m.name)))


def _told_apart(name: str, groups: list[tuple[MeasuredRun, ...]]) -> Iterator[Method]:
    usual = PAPER_STANDARDISATION if name in PAPER_ROWS else PRESETS["ahse"].standardisation
    plain = [group for group in groups if len(groups) == 1 or group[0].config.head.standardisation == usual]
    for group in groups:
        yield Method(name if plain == [group] else f"{name} ({_setting(group[0])})", group)


def _setting(run: MeasuredRun) -> str:
    head = run.config.head
    return f"{head.standardisation}, {head.logit_scale} logits, lr {head.lr:g}, lambda {head.align_weight:g}"


def _rank(name: str) -> int:
    return PAPER_ROWS.index(name) if name in PAPER_ROWS else len(PAPER_ROWS)
