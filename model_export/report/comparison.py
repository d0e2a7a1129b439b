"""The paper's two tables with our figures beside the published ones; all in per cent.

Cells without a run say "not measured"; nothing is filled in.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from model_export.data.gzsl_data import TextOrder, Track
from model_export.data.published_layout import PUBLISHED
from model_export.errors import RunError
from model_export.head.cost import Cost
from model_export.head.evaluation import RankedBy
from model_export.report.tables import (
    BASELINE,
    FROZEN,
    NOT_MEASURED,
    PAPER_ROWS,
    Figure,
    Method,
    Table,
    data_title,
)

PAPER: Final = "AHSE paper, arXiv 2606.11602"
HSP_MOE: Final = "HSP-MoE (2026), self-reported"
DATA_SETS: Final = ("VGGSound-GZSL", "UCF-GZSL", "ActivityNet-GZSL")


@dataclass(frozen=True)
class PublishedResult:
    """One published row of the comparison table.

    Attributes:
        method: Name.
        figures: S, U, HM and ZSL by data set.
        source: Where the row was printed.
    """

    method: str
    figures: dict[str, tuple[float, float, float, float]]
    source: str = PAPER


def _result(method: str, *figures: tuple[float, float, float, float], source: str = PAPER) -> PublishedResult:
    return PublishedResult(method, dict(zip(DATA_SETS, figures, strict=True)), source)


COMPARISON: Final = (
    _result("CJME", (11.96, 5.41, 7.65, 6.84), (48.18, 17.78, 25.87, 20.46), (16.06, 9.13, 11.64, 9.92)),
    _result(
        "AVGZSLNet", (13.02, 2.88, 4.71, 5.44), (56.26, 34.37, 42.67, 35.66), (14.81, 11.11, 12.70, 12.39)
    ),
    _result("AVCA", (32.47, 6.81, 10.56, 8.16), (34.90, 38.67, 36.69, 38.67), (24.04, 19.88, 21.76, 20.88)),
    _result(
        "Hyper-multiple",
        (21.99, 8.12, 11.87, 8.47),
        (43.52, 39.77, 41.56, 40.28),
        (20.52, 21.30, 20.90, 22.18),
    ),
    _result(
        "CLIP-CLAP", (29.68, 11.12, 16.18, 11.53), (77.14, 43.91, 55.97, 46.96), (45.98, 20.06, 27.93, 22.76)
    ),
    _result(
        "EZ-AVOOD", (39.33, 11.84, 18.21, 13.28), (83.53, 48.01, 60.97, 50.92), (41.56, 21.06, 27.95, 25.20)
    ),
    _result("AHSE", (35.23, 12.66, 18.62, 13.03), (88.05, 54.41, 67.26, 56.00), (45.29, 24.22, 31.56, 25.81)),
    _result(
        "HSP-MoE",
        (31.49, 13.78, 19.17, 14.97),
        (81.54, 56.90, 67.03, 59.16),
        (52.74, 27.99, 36.57, 31.28),
        source=HSP_MOE,
    ),
)
COMPARISON_NOTE: Final = (
    "The printed HM of CJME and AVCA do not follow from their S and U; recomputed, CJME has 7.45 (VGGSound), "
    "AVCA 11.26 (VGGSound), and CJME 25.97 (UCF)."
)

# HM and ZSL of the paper's ablation, by data set.
ABLATION: Final[dict[str, dict[str, tuple[float, float]]]] = {
    BASELINE: dict(zip(DATA_SETS, ((16.18, 11.53), (55.97, 46.96), (27.93, 22.76)), strict=True)),
    "ES only": dict(zip(DATA_SETS, ((17.81, 12.09), (58.25, 48.88), (30.49, 24.43)), strict=True)),
    "HA only": dict(zip(DATA_SETS, ((18.61, 13.41), (61.81, 51.57), (30.39, 25.50)), strict=True)),
    "AHSE": dict(zip(DATA_SETS, ((18.62, 13.03), (67.26, 56.00), (31.56, 25.81)), strict=True)),
}


OURS = "this project"
_ORDERS: Final[dict[TextOrder, str]] = {"by_name": "", "legacy": " (legacy text order)"}
GAINED: Final = ("HM", "ZSL")
_FIGURES: Final = ("S", "U", "HM", "ZSL")


def comparison_table(found: Sequence[Method]) -> Table:
    """S / U / HM / ZSL of every method on the three data sets, published ones first.

    Only runs on published clip features count as ours here; others would not be comparable.
    """
    real = [m for m in found if _is_published(m)]
    rows = [
        (r.method, *(_cell([f"{value:.2f}" for value in r.figures[d]]) for d in DATA_SETS), r.source)
        for r in COMPARISON
    ]
    orders: set[TextOrder] = {"by_name", *(m.runs[0].config.data.text_order for m in real)}
    for order in sorted(orders):
        rows += _own_rows([m for m in real if m.runs[0].config.data.text_order == order], _ORDERS[order])
    title = "Comparison on published clip features: S / U / HM / ZSL, per cent"
    note = f"{COMPARISON_NOTE} Runs on SIMULATED or other features are not comparable and not in this table."
    return Table(title, ("method", *DATA_SETS, "source"), tuple(rows), note)


def _is_published(method: Method) -> bool:
    """Whether its features are the published ones, and not others that somebody gave the same name."""
    data = method.runs[0].config.data
    known = {one.name: one.encoders for one in PUBLISHED}
    return not data.simulated and data.encoders == known.get(data.name)


def _own_rows(real: Sequence[Method], order: str) -> list[tuple[str, ...]]:
    """The rows of runs whose texts were joined in one way."""
    names = sorted({m.name for m in real} | {BASELINE, "AHSE"}, key=_order)
    rankings: tuple[tuple[RankedBy, str], ...] = (("embedding", ""), ("fused", " + raw similarities"))
    rows = [
        (name + more + order, *(_ours(real, name, data_set, ranking) for data_set in DATA_SETS), OURS)
        for name in names
        for ranking, more in rankings
    ]
    raw = [_ours(real, None, data_set, "raw") for data_set in DATA_SETS]
    return [*rows, (FROZEN + order, *raw, OURS)]


def ablation_table(found: Sequence[Method]) -> Table:
    """The paper's four rows: ours, the gain of each on the baseline, and the published numbers."""
    by_name = {method.name: method for method in found}
    data_set = found[0].runs[0].config.data.name
    rows = tuple((name, *_ablation_cells(by_name, name), *_published(name, data_set)) for name in PAPER_ROWS)
    return Table(
        f"Ablation on {data_title(found)}, ranked by the embedding",
        ("row", "seeds", "S", "U", "HM", "ZSL", "hubness", "HM gain", "ZSL gain", "paper HM", "paper ZSL"),
        rows,
        "Gains are means of paired differences to the baseline over the seeds that both have, with 95 % "
        "intervals; one that includes 0 is no gain. ES: embedding standardisation; HA: hierarchical "
        "alignment. The paper's columns are for published clip features.",
    )


def gain(
    method: Method, baseline: Method, figure: str, ranking: RankedBy = "embedding", track: Track = "both"
) -> Figure | None:
    """Paired differences to the baseline over the seeds and data that both have; None where there is none."""
    ours, theirs = (
        dict(zip(m.draws, m.figure(figure, ranking, track).values, strict=True)) for m in (method, baseline)
    )
    both = sorted(ours.keys() & theirs.keys())
    return Figure(tuple(ours[seed] - theirs[seed] for seed in both)) if both else None


def _ablation_cells(by_name: dict[str, Method], name: str) -> tuple[str, ...]:
    if name not in by_name:
        return ("0", *(NOT_MEASURED,) * 7)
    method = by_name[name]
    figures = (method.figure(f).shown() for f in (*_FIGURES, "hubness"))
    gains = (gain(method, by_name[BASELINE], f) if BASELINE in by_name else None for f in GAINED)
    shown = (NOT_MEASURED if g is None else "" if name == BASELINE else g.gain_shown() for g in gains)
    return (str(len(method.seeds)), *figures, *shown)


def _published(name: str, data_set: str) -> tuple[str, str]:
    if data_set not in ABLATION[name]:
        return "", ""
    hm, zsl = ABLATION[name][data_set]
    return f"{hm:.2f}", f"{zsl:.2f}"


def _ours(real: Sequence[Method], name: str | None, data_set: str, ranking: RankedBy) -> str:
    """The figures of a method, or of any where the name is None.

    Raises:
        RunError: Two versions of the data set would have to share the cell.
    """
    of_set = [m for m in real if m.runs[0].config.data.name == data_set]
    if len({m.runs[0].config.data.key for m in of_set}) > 1:
        raise RunError(f"the runs are on different features of {data_set}; report them apart")
    found = [m for m in of_set if name in (None, m.name)]
    return _cell([found[0].figure(f, ranking).shown() for f in _FIGURES]) if found else NOT_MEASURED


def _cell(values: Sequence[str]) -> str:
    return " / ".join(values)


def _order(name: str) -> tuple[int, str]:
    return (PAPER_ROWS.index(name) if name in PAPER_ROWS else len(PAPER_ROWS), name)


def table_one(found: Sequence[Method]) -> Table:
    """Table I on one data set: every method's figures, what it cost, and the published ones beside them."""
    data_set = found[0].runs[0].config.data.name
    published = {result.method: result.figures.get(data_set) for result in COMPARISON}
    names = [*(name for name in published), *(m.name for m in found if m.name not in published)]
    by_name = {method.name: method for method in found if method.name not in ("ES only", "HA only")}
    rows = [
        (name, *_table_one_cells(by_name.get(name)), _printed(published.get(name)))
        for name in names
        if name in by_name or name in published
    ]
    raw = [found[0].figure(figure, "raw").shown() for figure in _FIGURES]
    rows.append((FROZEN, str(len(found[0].seeds)), *raw, "", "0", "", ""))
    return Table(
        f"Table I on {data_title(found)}",
        ("method", "seeds", *_FIGURES, "HM as served", "seconds", "MiB", "published S / U / HM / ZSL"),
        tuple(rows),
        "S, U, HM and ZSL by the embedding alone (HSP-MoE: fused, as it is published); HM as served is fused "
        "with the raw similarities where the "
        "method's preset says so. Seconds are of both stages of one training, MiB the largest memory of the "
        "process, data and libraries included. The published figures are of published clip features"
        + ("." if _is_published(found[0]) else f" and not comparable with {_others(found[0])}."),
    )


def _others(method: Method) -> str:
    return "SIMULATED ones" if method.runs[0].config.data.simulated else "these"


def _table_one_cells(method: Method | None) -> tuple[str, ...]:
    if method is None:
        return ("0", *(NOT_MEASURED,) * 5, "", "")
    costs = [cost for run in method.runs if (cost := Cost.load(run.path))]
    memory = [cost.peak_memory_mib for cost in costs if cost.peak_memory_mib]
    return (
        str(len(method.seeds)),
        *(method.figure(figure, _published_ranking(method)).shown() for figure in _FIGURES),
        method.figure("HM", method.runs[0].own_ranking).shown(),
        f"{statistics.mean(cost.seconds for cost in costs):.0f}" if costs else "",
        f"{max(memory):,.0f}" if memory else "",
    )


def _published_ranking(method: Method) -> RankedBy:
    """By the embedding, or where the method's own publication fuses it with the raw similarities, by both."""
    return "fused" if method.config.raw_weight == "balanced" else "embedding"


def _printed(figures: tuple[float, ...] | None) -> str:
    return "" if figures is None else _cell([f"{value:.2f}" for value in figures])
