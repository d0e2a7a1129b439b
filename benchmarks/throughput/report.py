"""The result of a throughput run as tables, a JSON file and plots."""

from __future__ import annotations

import json
from itertools import groupby
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.throughput.goals import goals
from benchmarks.throughput.growth_plots import clips_plot, growth_plot
from benchmarks.throughput.points import BASE, BUNDLES
from benchmarks.throughput.ratios import add_ratios, largest_difference, limit, share_of_limit

_PARTS = {
    "clips": "Clips",
    "clients": "Clients (more: above)",
    "names": "Names (ten: above)",
    "length": "Length of the clip, one client",
    "segments": "Segments of ten seconds, one client",
    "again": "The same clip again",
    "new names": "Very many new names, one client",
    "bundles": "Other bundles",
}
_COLUMNS = (
    "clip", "names", "clients", "service", "clips/s", "x straightforward", "x names kept", "of the limit",
    "p50 ms", "p95 ms", "requests", "MiB",
)  # fmt: skip
_EXPLANATION = """\
One base case (360p GOP 30, 10 s, ten known names, {clients} clients) and one axis at a time. Names are
*known* if the services have seen them, *new* if no request had them before; embeddings of 1,000 and 100,000
known names are made-up ones. *straightforward* encodes names in every request; *names kept* is the same with
the embeddings of its names kept. Both work on one request at a time, and on its segments one by one; ratios
are to the most that they answered of the same in a second, with any number of clients. With the real
architectures they run torch in {opponent}, and this service {ours}; with other bundles they run the bundle's
graphs in onnxruntime. MiB: the largest resident memory of each process of a service during the point, added
up.

Limits: decoding, each encoder graph and, among more than ten names, ranking alone, with all that the machine
has, added up for what a clip needs, text encoders for new names only; with a GPU the slower of encoding and
the rest. Decoding and graphs are measured before each point of this service that has a limit, and medians of
the run count."""
Row = dict[str, Any]


def write_figures(found: dict[str, Any], out: Path) -> None:
    """Write throughput.json: all that was measured, from which a run can be resumed and reported."""
    out.mkdir(parents=True, exist_ok=True)
    add_ratios(found)
    begun = out / "throughput.json.part"
    begun.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    begun.replace(out / "throughput.json")


def write_report(found: dict[str, Any], out: Path) -> None:
    """Write throughput.md, throughput.json, throughput.png and growth.png, as far as things were measured."""
    write_figures(found, out)
    (out / "throughput.md").write_text(_markdown(found), encoding="utf-8")
    clips_plot(found).savefig(out / "throughput.png", dpi=110)
    growth_plot(found).savefig(out / "growth.png", dpi=110)


def _markdown(found: dict[str, Any]) -> str:
    machine, precision = found["machine"], found["precision"]
    bundles = "" if "GPU" in machine else ", and two bundles"
    lines = [f"# Throughput: RANDOM weights of ViT-B/32, HTSAT-tiny and RoBERTa{bundles}", ""]
    lines += [f"- {name}: {value}" for name, value in machine.items()]
    difference = largest_difference(found["rows"])
    if difference is not None:
        lines += [
            f"- the services' similarities for the same clip and names differ by at most {difference:.4f}"
        ]
    many = [row["clients"] for row in found["rows"] if row["part"] == "clips" and row["clip"] == BASE]
    clients = max(many, default="many")
    told = _EXPLANATION.format(opponent=precision["straightforward"], ours=precision["ahse"], clients=clients)
    lines += ["", told, ""]
    if "GPU" not in machine:
        lines += ["## Goals", "", *_goals(found), ""]
    for (part, bundle), rows in groupby(sorted(found["rows"], key=_place), key=_place):
        title = list(_PARTS.values())[part] + (f": {BUNDLES[bundle]}" if bundle else "")
        cells = [_cells(found, row) for row in rows]
        lines += [f"## {title}", "", *_table(_columns(found), cells), ""]
    lines += ["## Limits, clips per second", "", *_limits(found), ""]
    lines += ["Ranking alone, clips per second:", "", *_ranking(found), ""]
    return "\n".join(lines)


def _place(row: Row) -> tuple[int, int]:
    """The table that a row is in. Points that failed at first come last in a run that was resumed."""
    return list(_PARTS).index(row["part"]), BUNDLES.index(row["bundle"])


def _goals(found: dict[str, Any]) -> list[str]:
    rows = [
        [
            f"{goal.wanted:g} {goal.text}",
            "" if goal.measured is None else f"{goal.measured:.2f}",
            goal.verdict,
            goal.detail,
        ]
        for goal in goals(found["rows"], int(found["machine"]["cores"]))
    ]
    return _table(("goal, at least", "measured", "", ""), rows)


def _columns(found: dict[str, Any]) -> tuple[str, ...]:
    return (*_COLUMNS, "GPU busy %", "GPU MiB") if "GPU" in found["machine"] else _COLUMNS


def _cells(found: dict[str, Any], row: Row) -> list[str]:
    # To one that keeps no names, none are known.
    names = f"{row['n_names']:,} {row['names'] if row['service'] != 'straightforward' else ''}"
    service = f"{row['service']}, {row['options']}" if row["options"] else row["service"]
    ratios = [_number(row["ratios"].get(one)) for one in ("straightforward", "names kept")]
    share = share_of_limit(row)
    cells = [row["clip"], names, str(row["clients"]), service, _rate(row["clips_per_s"]), *ratios]
    cells += ["" if share is None else f"{100 * share:.0f} %"]
    cells += [f"{row[key]:.0f}" for key in ("p50_ms", "p95_ms", "n_requests", "peak_memory_mib")]
    if "GPU" in found["machine"]:
        cells += [_number(row["gpu_busy_percent"]), _number(row["gpu_memory_mib"], 0)]
    return cells


def _rate(clips_per_s: float) -> str:
    return f"{clips_per_s:.2f}" if clips_per_s >= 0.1 else f"{clips_per_s:.2g}"


def _number(value: float | None, digits: int = 1) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _limits(found: dict[str, Any]) -> list[str]:
    """Medians, with the lowest and the highest of a run; text encoders for ten names."""
    graphs = ("visual", "audio", "text_visual", "text_audio")
    rows = []
    for bundle, rounds in found["limits"].items():
        for clip, decoding in rounds["decoding"].items():
            steps = [decoding, *(rounds["graphs"].get(graph) for graph in graphs)]
            both = (limit(found, bundle, clip, n_new) for n_new in (0, 10))
            rows.append([bundle, clip, *map(_spread, steps), *map(_number, both, (2, 2))])
    return _table(
        ("bundle", "clip", "decoding", *graphs, "together, names known", "together, 10 new names"), rows
    )


def _spread(rates: list[float] | None) -> str:
    return f"{median(rates):.2f} ({min(rates):.1f} to {max(rates):.1f}, n={len(rates)})" if rates else ""


def _ranking(found: dict[str, Any]) -> list[str]:
    rows = [
        [bundle, f"{int(n_names):,}", f"{rate:.0f}"]
        for bundle, rates in found["ranking"].items()
        for n_names, rate in rates.items()
    ]
    return _table(("bundle", "names", "ranking"), rows)


def _table(columns: tuple[str, ...], rows: list[list[str]]) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in (columns, ["---"] * len(columns), *rows)]
