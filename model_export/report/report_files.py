"""Write a report: one self-contained HTML page, and the same as Markdown, JSON and PNG files."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Final

from model_export.errors import RunError
from model_export.head.evaluation import RankedBy
from model_export.head.run_folder import write_atomically
from model_export.report.comparison import GAINED, ablation_table, comparison_table, gain, table_one
from model_export.report.measurements import RANKINGS, MeasuredRun
from model_export.report.pictures import (
    RANKED_BY,
    beta_curves,
    embedding_map,
    hubness_histogram,
    reliability_diagram,
)
from model_export.report.tables import (
    BASELINE,
    NOT_MEASURED,
    Method,
    Table,
    by_data,
    data_title,
    evaluation_document,
    ranking_table,
    track_table,
)

PICTURES: Final = {
    "tsne": embedding_map,
    "beta": beta_curves,
    "hubness": hubness_histogram,
    "reliability": reliability_diagram,
}
SEED_RANKINGS: Final[tuple[RankedBy, ...]] = ("embedding", "fused")
_STYLE: Final = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 76rem; color: #222 }
table { border-collapse: collapse; margin: .6rem 0; font-size: 13px }
th, td { border-bottom: 1px solid #ccc; padding: .25rem .6rem; text-align: left; white-space: nowrap }
.wide { overflow-x: auto } img { max-width: 100% } .note { color: #555; font-size: 13px }
"""


def write_report(runs: Sequence[MeasuredRun], out: Path) -> None:
    """Write report.html, report.md, report.json and the pictures into a folder.

    Raises:
        RunError: There are two runs of the same settings, data set and seed.
    """
    found = by_data(runs)
    for method in (m for group in found for m in group):
        if len(set(method.draws)) < len(method.draws):
            raise RunError(f"{method.name}: two runs of the same seed; name each run once")
    out.mkdir(parents=True, exist_ok=True)
    pictures = {name: png for group in found for name, png in _pictures(group).items()}
    for name, png in pictures.items():
        (out / name).write_bytes(png)
    title = "AHSE: " + ", ".join(data_title(group) for group in found)
    tables = [comparison_table([m for group in found for m in group])]
    tables += [table for group in found for table in _tables(group)]
    markdown = [f"# {title}", *(t.markdown() for t in tables), *(f"![{n}]({n})" for n in pictures)]
    write_atomically(out / "report.md", "\n\n".join(markdown) + "\n")
    document = [_document(group) for group in found]
    write_atomically(out / "report.json", json.dumps(document, indent=1) + "\n")
    write_atomically(out / "report.html", _page(title, tables, pictures))


def _tables(found: Sequence[Method]) -> list[Table]:
    """All tables of one data set."""
    return [
        table_one(found),
        ablation_table(found),
        ranking_table(found),
        _seed_table(found),
        track_table(found),
        _settings(found),
    ]


def _seed_table(found: Sequence[Method]) -> Table:
    """HM / ZSL of every seed, and the mean gain on the baseline ranked likewise."""
    seeds = sorted({seed for method in found for seed in method.seeds})
    baseline = next((method for method in found if method.name == BASELINE), None)
    rows = [(m, ranking) for ranking in SEED_RANKINGS for m in found]
    return Table(
        f"HM / ZSL by seed, {data_title(found)}",
        ("method", "ranked by", *(f"seed {seed}" for seed in seeds), "gain on the baseline"),
        tuple(
            (m.name, RANKED_BY[r], *(_seed_cell(m, s, r) for s in seeds), _gain_cell(m, baseline, r))
            for m, r in rows
        ),
        "Gains are means of paired differences, each to the baseline ranked in the same way.",
    )


def _seed_cell(method: Method, seed: int, ranking: RankedBy) -> str:
    if seed not in method.seeds:
        return NOT_MEASURED
    i = method.seeds.index(seed)
    return " / ".join(f"{method.figure(f, ranking).values[i]:.1f}" for f in GAINED)


def _gain_cell(method: Method, baseline: Method | None, ranking: RankedBy) -> str:
    gains = [gain(method, baseline, f, ranking) if baseline else None for f in GAINED]
    if method is baseline:
        return ""
    return " / ".join(NOT_MEASURED if g is None else g.gain_shown() for g in gains)


def _settings(found: Sequence[Method]) -> Table:
    """How each method was trained."""
    names = (
        "standardisation",
        "lr",
        "n_epochs",
        "logit_scale",
        "align_weight",
        "geometry_weight",
        "distil_weight",
    )
    rows = tuple((m.name, *(str(getattr(m.config, name)) for name in names)) for m in found)
    return Table("Settings", ("method", *names), rows)


def _pictures(found: Sequence[Method]) -> dict[str, bytes]:
    """PNG by file name: the baseline, the paper's method and ours, where there are runs of them."""
    full = [m for m in found if m.name.startswith("AHSE")]
    shown = [m for m in found if m.name == BASELINE] + full[:1] + full[1:][-1:]
    if not shown:
        shown = list(found[:3])
    name, _, text_order, digest = shown[0].runs[0].config.data.key
    order = "_legacy" if text_order == "legacy" else ""
    plain = re.sub(r"[^\w.-]", "_", name.lower())  # whatever the data set is called, files can be so
    key = f"{plain}{order}_{digest[:6]}"
    return {f"{key}_{name}.png": draw(shown) for name, draw in PICTURES.items()}


def _page(title: str, tables: Sequence[Table], pictures: dict[str, bytes]) -> str:
    images = (
        f'<h2>{escape(name)}</h2><img alt="{escape(name)}" '
        f'src="data:image/png;base64,{base64.b64encode(png).decode()}">'
        for name, png in pictures.items()
    )
    body = "\n".join([*(_html(table) for table in tables), *images])
    return (
        f'<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>{escape(title)}</title>'
        f"<style>{_STYLE}</style>\n<h1>{escape(title)}</h1>\n{body}\n</html>\n"
    )


def _html(table: Table) -> str:
    def row(cells: Sequence[str], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells) + "</tr>"

    rows = "\n".join([row(table.columns, "th"), *(row(cells, "td") for cells in table.rows)])
    note = f'<p class="note">{escape(table.note)}</p>' if table.note else ""
    return f'<h2>{escape(table.title)}</h2>\n<div class="wide"><table>{rows}</table></div>{note}'


def _document(found: Sequence[Method]) -> dict[str, object]:
    """The figures over seeds, and the paired gains of each method on the baseline."""
    baseline = next((method for method in found if method.name == BASELINE), None)
    gains = {
        method.name: {
            f"{r} {f}": g.values for r in RANKINGS for f in GAINED if (g := gain(method, baseline, f, r))
        }
        for method in found
        if baseline
    }
    return evaluation_document(found, with_runs=False) | {"gains": gains}
