"""Runs grouped into methods over seeds, and their figures as tables and JSON."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Final

import numpy as np
from scipy.stats import t

from model_export.data.gzsl_data import SINGLE_TRACKS, Track
from model_export.head.evaluation import Evaluation, RankedBy
from model_export.head.head_config import PAPER_STANDARDISATION, PRESETS, HeadConfig, MethodName
from model_export.report.measurements import RANKINGS, MeasuredRun

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
TRACKS: Final[tuple[Track, ...]] = ("both", *SINGLE_TRACKS)
PAPER_ROWS: Final = ("CLIP-CLAP", "ES only", "HA only", "AHSE")
"""Of the paper's ablation; ES: embedding standardisation, HA: hierarchical alignment."""
TITLES: Final[dict[MethodName, str]] = {
    "cjme": "CJME",
    "avgzslnet": "AVGZSLNet",
    "avca": "AVCA",
    "hyper_multiple": "Hyper-multiple",
    "clip_clap": "CLIP-CLAP",
    "ez_avood": "EZ-AVOOD",
    "hsp_moe": "HSP-MoE",
}
"""As the paper's Table I names the methods."""
BASELINE: Final = TITLES["clip_clap"]


@dataclass(frozen=True)
class Figure:
    """One number over seeds.

    Attributes:
        values: One per seed, in the order of the seeds.
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

    def interval(self) -> tuple[float, float] | None:
        """95 % confidence interval of the mean (Student's t); None for one seed."""
        if self.std is None:
            return None
        half = float(t.ppf(0.975, len(self.values) - 1)) * self.std / len(self.values) ** 0.5
        return self.mean - half, self.mean + half

    def gain_shown(self) -> str:
        """`+mean [low, high]`: a difference with its 95 % confidence interval."""
        found = self.interval()
        return f"{self.mean:+.2f}" + (f" [{found[0]:+.2f}, {found[1]:+.2f}]" if found else "")

    def shown(self, digits: int = 2) -> str:
        """`mean ± standard deviation`, or the one value."""
        mean = f"{self.mean:.{digits}f}"
        return mean if self.std is None else f"{mean} ± {self.std:.{digits}f}"


@dataclass(frozen=True)
class Method:
    """Runs that differ in their seed only, on one data set or on draws from one law.

    Attributes:
        name: The paper's name of the method, and this project's additions to it.
        runs: In the order of their seeds.
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

    @property
    def draws(self) -> tuple[tuple[int, str], ...]:
        """Seed and data of each run: what two methods must share to be compared run by run."""
        return tuple((run.config.head.seed, run.config.data.fingerprint) for run in self.runs)

    def figure(self, name: str, ranking: RankedBy = "embedding", track: Track = "both") -> Figure:
        """One of FIGURES over the seeds."""
        return Figure(tuple(FIGURES[name](run.of(ranking, track)) for run in self.runs))


def method_name(config: HeadConfig) -> str:
    """The paper's name of a configuration, followed by what the paper does not have."""
    usual = next(preset for preset in PRESETS.values() if preset.method == config.method).follow
    followed = "" if config.follow == usual else f" (as its {config.follow})"
    if config.method != "clip_clap":
        return TITLES[config.method] + followed
    es = config.standardisation != "none"
    terms = {"semantic": config.align_semantic, "class": config.align_class, "batch": config.align_batch}
    ha = all(terms.values())
    name = {(False, False): TITLES["clip_clap"], (True, False): "ES only", (False, True): "HA only"}.get(
        (es, ha), "AHSE"
    )
    extras = {
        f"{' and '.join(t for t, on in terms.items() if on)} alignment only": any(terms.values()) and not ha,
        "text geometry": config.geometry_weight > 0,
        "distillation": config.distil_weight > 0,
        "track dropout": config.modality_dropout > 0,
        "residual adapters": config.adapter_scale > 0,
        "quality weights": config.quality_weights,
        f"{config.modality} only": config.modality != "both",
        f"{config.text} text only": config.text != "both",
    }
    return " + ".join([name + followed, *(extra for extra, on in extras.items() if on)])


def methods(runs: Sequence[MeasuredRun]) -> tuple[Method, ...]:
    """Group runs on one data set by configuration; the paper's rows first, in the paper's order.

    Configurations of the same name get their settings added to it. The one with the usual standardisation
    (the paper's rows per sample, others as the product's default) keeps the plain name, if there is only one.
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


def by_data(runs: Sequence[MeasuredRun]) -> list[tuple[Method, ...]]:
    """The methods of each data set apart; another order of texts makes it another one."""

    def key(run: MeasuredRun) -> tuple[str, bool, str, str]:
        return run.config.data.key

    return [methods(list(group)) for _, group in groupby(sorted(runs, key=key), key=key)]


def _told_apart(name: str, groups: list[tuple[MeasuredRun, ...]]) -> Iterator[Method]:
    usual = PAPER_STANDARDISATION if name in PAPER_ROWS else PRESETS["ahse"].standardisation
    plain = [group for group in groups if len(groups) == 1 or group[0].config.head.standardisation == usual]
    for group in groups:
        yield Method(name if plain == [group] else f"{name} ({_setting(group[0])})", group)


def _setting(run: MeasuredRun) -> str:
    """What may tell runs of one name apart: usual settings, and all others that are not as by default."""
    head = run.config.head
    usual = f"{head.standardisation}, {head.logit_scale} logits, lr {head.lr:g}, lambda {head.align_weight:g}"
    told = [
        f"{name} {getattr(head, name)}"
        for name, field in HeadConfig.model_fields.items()
        if name not in _TOLD and getattr(head, name) != field.default
    ]
    return ", ".join([usual, *told])


_TOLD: Final = frozenset((
    *("method", "follow", "align_semantic", "align_class", "align_batch"),
    *("modality", "text", "quality_weights"),
    *("standardisation", "logit_scale", "lr", "align_weight", "seed"),
))  # fmt: skip
"""Settings that the name of a method has whole, then those that are usual, and the seed."""


def _rank(name: str) -> int:
    return PAPER_ROWS.index(name) if name in PAPER_ROWS else len(PAPER_ROWS)


NOT_MEASURED = "not measured"
FROZEN: Final = "frozen encoders, no head"
"""The row that every table has: the late fusion of the raw similarities, without any training."""
_ANY_TRACKS: Final = (
    "No test clips of seen classes, or none of unseen ones, have both tracks: these are all test clips, each "
    "with the tracks that it has."
)


@dataclass(frozen=True)
class Table:
    """A table of text.

    Attributes:
        title: Says SIMULATED where the data is.
        columns: Names.
        rows: As many cells each as there are columns.
        note: Explanation below the table.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""

    def markdown(self) -> str:
        """As Markdown."""
        lines = [self.columns, ("---",) * len(self.columns), *self.rows]
        body = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
        return "\n\n".join(part for part in (f"### {self.title}", body, self.note) if part)

    def text(self) -> str:
        """With aligned columns."""
        widths = [max(map(len, column)) for column in zip(self.columns, *self.rows, strict=True)]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()
            for cells in (self.columns, *self.rows)
        ]
        return "\n".join([self.title, *lines, *([self.note] if self.note else [])])


def data_title(found: Sequence[Method]) -> str:
    """Name of the data set, with what distinguishes it: SIMULATED, the order of its texts, and its digest."""
    name, simulated, text_order, digest = found[0].runs[0].config.data.key
    order = ", legacy text order" if text_order == "legacy" else ""
    return f"{'SIMULATED ' if simulated else ''}{name} [{digest[:6]}{order}]"


def ranking_table(found: Sequence[Method]) -> Table:
    """Every method by its embedding and fused with the raw features, and the raw features alone."""
    columns = ("S", "U", "HM", "ZSL", "hubness", "ECE", "unknown AUROC")
    rankings: tuple[tuple[RankedBy, str], ...] = (("embedding", ""), ("fused", " + raw similarities"))
    rows = [_row(m.name + more, m, columns, ranking) for m in found for ranking, more in rankings]
    rows += [_row(FROZEN, found[0], columns, "raw")]
    title, note = f"Test clips of {data_title(found)}", "" if _have_both(found) else _ANY_TRACKS
    return Table(title, ("method", "seeds", *columns), tuple(rows), note)


def _have_both(found: Sequence[Method]) -> bool:
    return all(run.has("raw") for method in found for run in method.runs)


def _row(name: str, method: Method, columns: Sequence[str], ranking: RankedBy) -> tuple[str, ...]:
    figures = (method.figure(column, ranking).shown(_digits(column)) for column in columns)
    return (name, str(len(method.seeds)), *figures)


def _digits(figure: str) -> int:
    return 3 if "AUROC" in figure or figure == "ECE" else 2


def track_table(found: Sequence[Method]) -> Table:
    """Figures where test clips have lost a track; each method by its own ranking."""
    columns = tuple(f"{figure}, {track}" for figure in ("HM", "ZSL") for track in TRACKS)
    asked = [(figure, track) for figure in ("HM", "ZSL") for track in TRACKS]
    rows = tuple((m.name, *(_track_cell(m, figure, track) for figure, track in asked)) for m in found)
    return Table(f"Missing tracks, {data_title(found)}", ("method", *columns), rows)


def _track_cell(method: Method, figure: str, track: Track) -> str:
    ranking = method.runs[0].own_ranking
    is_measured = all(run.has(ranking, track) for run in method.runs)
    return method.figure(figure, ranking, track).shown() if is_measured else NOT_MEASURED


def evaluation_text(found: Sequence[Method]) -> str:
    """What `ahse evaluate` prints."""
    tables = [ranking_table(found), track_table(found)]
    for method in found:
        own = method.runs[0].of(method.runs[0].own_ranking)
        pairs = tuple((c.actual, c.predicted, str(c.n_clips)) for c in own.confusions[:5])
        title = f"Most frequent mistakes, {method.name}, seed {own.seed}"
        tables.append(Table(title, ("class", "taken for", "clips"), pairs))
    return "\n\n".join(table.text() for table in tables)


def evaluation_document(found: Sequence[Method], *, with_runs: bool = True) -> dict[str, Any]:
    """Mean and deviation of each method, and where asked for every evaluation of its runs."""
    return {"data": data_title(found), "methods": [_method_document(m, with_runs=with_runs) for m in found]}


def _method_document(method: Method, *, with_runs: bool) -> dict[str, Any]:
    document = {
        "name": method.name,
        "config": method.config.model_dump(exclude={"seed"}),
        "seeds": method.seeds,
        "figures": {r: {name: _figure_document(method, name, r) for name in FIGURES} for r in RANKINGS},
    }
    runs = [[e.model_dump(mode="json") for e in run.evaluations] for run in method.runs]
    return document | ({"runs": runs} if with_runs else {})


def _figure_document(method: Method, name: str, ranking: RankedBy) -> dict[str, Any]:
    figure = method.figure(name, ranking)
    return {"mean": figure.mean, "std": figure.std, "values": figure.values}
