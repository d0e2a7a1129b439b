"""Measurements as tables: plain rows of text, for the terminal, for Markdown and for HTML."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from model_export.head.evaluation import Ranking
from model_export.report.measured import RANKINGS
from model_export.report.summary import FIGURES, Method

NOT_MEASURED = "not measured"


@dataclass(frozen=True)
class Table:
    """A table of text.

    Attributes:
        title: says SIMULATED where it is.
        columns: names.
        rows: as many cells each as there are columns.
        note: what to know to read it.
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
    """Names of the data sets, each saying SIMULATED where it is."""
    identities = [run.config.data for method in found for run in method.runs]
    return ", ".join(sorted({f"SIMULATED {d.name}" if d.simulated else d.name for d in identities}))


def ranking_table(found: Sequence[Method]) -> Table:
    """Every method by its embedding and fused with the raw features, and the raw features alone."""
    columns = ("S", "U", "HM", "ZSL", "hubness", "ECE", "unknown AUROC")
    rankings: tuple[tuple[Ranking, str], ...] = (("embedding", ""), ("fused", " + raw similarities"))
    rows = [_row(m.name + more, m, columns, ranking) for m in found for ranking, more in rankings]
    rows += [_row("raw similarities, no training", found[0], columns, "raw")]
    return Table(f"Test clips of {data_title(found)}", ("method", "seeds", *columns), tuple(rows))


def _row(name: str, method: Method, columns: Sequence[str], ranking: Ranking) -> tuple[str, ...]:
    figures = (method.figure(column, ranking).shown(_digits(column)) for column in columns)
    return (name, str(len(method.seeds)), *figures)


def _digits(figure: str) -> int:
    return 3 if "AUROC" in figure or figure == "ECE" else 2


def track_table(found: Sequence[Method]) -> Table:
    """What is left when test clips lose a track; each method by its own ranking."""
    columns = tuple(f"{figure}, {track}" for figure in ("HM", "ZSL") for track in ("both", "visual", "audio"))
    rows = tuple(
        (
            m.name,
            *(
                m.figure(figure, m.runs[0].own_ranking, track).shown()
                for figure in ("HM", "ZSL")
                for track in ("both", "visual", "audio")
            ),
        )
        for m in found
    )
    return Table(f"Missing tracks, {data_title(found)}", ("method", *columns), rows)


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
    """Mean and deviation of each method, and every run whole where asked for."""
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


def _figure_document(method: Method, name: str, ranking: Ranking) -> dict[str, Any]:
    figure = method.figure(name, ranking)
    return {"mean": figure.mean, "std": figure.std, "values": figure.values}
