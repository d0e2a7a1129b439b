"""The paper's two tables with our numbers beside the published ones; what was not measured says so."""

from collections.abc import Sequence
from typing import Final

from model_export.head.evaluation import Ranking
from model_export.report.published import ABLATION, COMPARISON, COMPARISON_NOTE, DATA_SETS
from model_export.report.summary import PAPER_ROWS, Figure, Method
from model_export.report.tables import NOT_MEASURED, Table, data_title

OURS = "this project"
GAINED: Final = ("HM", "ZSL")
_FIGURES: Final = ("S", "U", "HM", "ZSL")


def comparison_table(found: Sequence[Method]) -> Table:
    """S / U / HM / ZSL of every method on the three data sets, published ones first.

    Only runs on published clip features count as ours here; others would not be comparable.
    """
    real = [m for m in found if not m.runs[0].config.data.simulated]
    rows = [
        (r.method, *(_cell([f"{value:.2f}" for value in r.figures[d]]) for d in DATA_SETS), r.source)
        for r in COMPARISON
    ]
    names = sorted({m.name for m in real} | {"baseline", "AHSE"}, key=_order)
    rankings: tuple[tuple[Ranking, str], ...] = (("embedding", ""), ("fused", " + raw similarities"))
    rows += [
        (name + more, *(_ours(real, name, data_set, ranking) for data_set in DATA_SETS), OURS)
        for name in names
        for ranking, more in rankings
    ]
    raw = [_ours(real, real[0].name if real else "", data_set, "raw") for data_set in DATA_SETS]
    rows.append(("raw late fusion, no training", *raw, OURS))
    title = "Comparison on published clip features: S / U / HM / ZSL, per cent"
    note = f"{COMPARISON_NOTE} Runs on SIMULATED or other features are not comparable and not in this table."
    return Table(title, ("method", *DATA_SETS, "source"), tuple(rows), note)


def ablation_table(found: Sequence[Method]) -> Table:
    """The paper's four rows: ours, the gain of each on the baseline, and the published numbers."""
    by_name = {method.name: method for method in found}
    data_set = found[0].runs[0].config.data.name
    rows = tuple((name, *_ablation_cells(by_name, name), *_published(name, data_set)) for name in PAPER_ROWS)
    return Table(
        f"Ablation on {data_title(found)}, ranked by the embedding",
        ("row", "seeds", "S", "U", "HM", "ZSL", "hubness", "HM gain", "ZSL gain", "paper HM", "paper ZSL"),
        rows,
        "Gains are means of paired differences to the baseline over the seeds that both have. ES: embedding "
        "standardisation; HA: hierarchical alignment. The paper's columns are for published clip features.",
    )


def gain(method: Method, baseline: Method, figure: str, ranking: Ranking = "embedding") -> Figure | None:
    """Paired differences to the baseline over the seeds that both have; None where there is none."""
    ours, theirs = (
        dict(zip(m.seeds, m.figure(figure, ranking).values, strict=True)) for m in (method, baseline)
    )
    both = sorted(ours.keys() & theirs.keys())
    return Figure(tuple(ours[seed] - theirs[seed] for seed in both)) if both else None


def _ablation_cells(by_name: dict[str, Method], name: str) -> tuple[str, ...]:
    if name not in by_name:
        return ("0", *(NOT_MEASURED,) * 7)
    method = by_name[name]
    figures = (method.figure(f).shown() for f in (*_FIGURES, "hubness"))
    gains = (gain(method, by_name["baseline"], f) if "baseline" in by_name else None for f in GAINED)
    shown = (NOT_MEASURED if g is None else "" if name == "baseline" else f"{g.shown()}" for g in gains)
    return (str(len(method.seeds)), *figures, *shown)


def _published(name: str, data_set: str) -> tuple[str, str]:
    if data_set not in ABLATION[name]:
        return "", ""
    hm, zsl = ABLATION[name][data_set]
    return f"{hm:.2f}", f"{zsl:.2f}"


def _ours(real: Sequence[Method], name: str, data_set: str, ranking: Ranking) -> str:
    for method in real:
        if method.name == name and method.runs[0].config.data.name == data_set:
            return _cell([method.figure(figure, ranking).shown() for figure in _FIGURES])
    return NOT_MEASURED


def _cell(values: Sequence[str]) -> str:
    return " / ".join(values)


def _order(name: str) -> tuple[int, str]:
    return (PAPER_ROWS.index(name) if name in PAPER_ROWS else len(PAPER_ROWS), name)
