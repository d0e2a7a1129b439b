"""The result of a throughput run as a table, a JSON file and a plot."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

_COLUMNS = ("clip", "clients", "service", "labels", "clips/s", "ratio", "p50 ms", "p95 ms", "p99 ms", "MiB")
_OPPONENT, _OURS = "straightforward", "ahse"
Row = dict[str, Any]


def write_report(found: dict[str, Any], out: Path) -> None:
    """Write throughput.md, throughput.json and throughput.png, and print the first."""
    out.mkdir(parents=True, exist_ok=True)
    for row in found["rows"]:
        row["ratio"] = row["clips_per_s"] / _opponent_of(found["rows"], row)["clips_per_s"]
    text = _markdown(found)
    (out / "throughput.md").write_text(text, encoding="utf-8")
    (out / "throughput.json").write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    _plot(found).savefig(out / "throughput.png", dpi=110)
    sys.stdout.write(text)


def _opponent_of(rows: list[Row], row: Row) -> Row:
    same = [r for r in rows if (r["clip"], r["clients"]) == (row["clip"], row["clients"])]
    return next(r for r in same if r["service"] == _OPPONENT)


def _markdown(found: dict[str, Any]) -> str:
    lines = ["# Throughput: RANDOM weights of ViT-B/32, HTSAT-tiny and RoBERTa", ""]
    lines += [f"- {name}: {value}" for name, value in found["machine"].items()]
    lines += [
        "- the services' similarities for the same clip and names differ by at most "
        f"{found['difference']:.4f}",
        "",
        "Ratio: clips/s beside the straightforward service at the same number of clients. "
        f"That one computes in {found['precision'][_OPPONENT]}, this one in {found['precision'][_OURS]}.",
        "",
        *_table(_columns(found), [_cells(found, row) for row in sorted(found["rows"], key=_order)]),
        "",
        "Limits: each step alone with all that the machine has, and all that a clip needs together (the text "
        "encoders only where names are cold).",
        "",
        *_limits(found),
        "",
    ]
    return "\n".join(lines)


def _order(row: Row) -> tuple[Any, ...]:
    return row["clip"].startswith("1080"), row["clip"], row["clients"], row["service"] != _OPPONENT


def _columns(found: dict[str, Any]) -> tuple[str, ...]:
    return (*_COLUMNS, "GPU busy %") if "GPU" in found["machine"] else _COLUMNS


def _cells(found: dict[str, Any], row: Row) -> list[str]:
    times = [f"{row[key]:.0f}" for key in ("p50_ms", "p95_ms", "p99_ms", "peak_memory_mib")]
    rates = [f"{row['clips_per_s']:.2f}", f"{row['ratio']:.1f}"]
    busy = "" if row["gpu_busy_percent"] is None else f"{row['gpu_busy_percent']:.0f}"
    cells = [row["clip"], str(row["clients"]), row["service"], row["labels"], *rates, *times, busy]
    return cells[: len(_columns(found))]


def _limits(found: dict[str, Any]) -> list[str]:
    limits, rows = found["limits"], []
    graphs = {name: one["clips_per_s"] for name, one in limits["graphs"].items()}
    for clip, decoding in limits["decoding"].items():
        for labels in ("warm", "cold"):
            together, rate = limits[labels][clip], max(_rates(found["rows"], clip, labels))
            shown = [decoding, *graphs.values(), together, rate]
            rows.append(
                [clip, labels, *(f"{value:.2f}" for value in shown), f"{100 * rate / together:.0f} %"]
            )
    return _table(("clip", "labels", "decoding", *graphs, "together", "ahse", "of the limit"), rows)


def _rates(rows: list[Row], clip: str, labels: str) -> list[float]:
    chosen = [r for r in rows if r["service"] == _OURS and r["labels"] == labels and r["clip"] == clip]
    return [row["clips_per_s"] for row in chosen]


def _table(columns: tuple[str, ...], rows: list[list[str]]) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in (columns, ["---"] * len(columns), *rows)]


def _plot(found: dict[str, Any]) -> Figure:
    figure = Figure(figsize=(10, 4.5), layout="constrained")
    axes = figure.add_subplot()
    most = max(row["clients"] for row in found["rows"])
    series: dict[str, list[float]] = {}
    for clip in found["clips"]:
        rows = [r for r in found["rows"] if (r["clip"], r["clients"]) == (clip, most)]
        for row in rows:
            series.setdefault(f"{row['service']}, names {row['labels']}", []).append(row["clips_per_s"])
        series.setdefault("limit, names warm", []).append(found["limits"]["warm"][clip])
    width = 0.8 / len(series)
    for index, (name, rates) in enumerate(series.items()):
        places = [place + (index - len(series) / 2 + 0.5) * width for place in range(len(rates))]
        bars = axes.bar(places, rates, width, label=name)
        axes.bar_label(bars, fmt="%.1f", fontsize=7)
    axes.set_xticks(range(len(found["clips"])), found["clips"])
    axes.set_ylabel("clips per second")
    axes.set_title(f"10 s clips, {most} clients, {found['machine']['cores']} cores, RANDOM weights")
    axes.legend(fontsize=8)
    return figure
