"""Plots of a throughput run: clips per second of each clip, and what grows with length, names and clients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from benchmarks.throughput.points import BASE, CLIPS, EVERYDAY, REAL
from benchmarks.throughput.ratios import limit

Row = dict[str, Any]
_COLOURS = {"ahse": "C1", "names kept": "C2", "straightforward": "C0"}


def clips_plot(found: dict[str, Any]) -> Figure:
    """Bars: clips per second with many clients, of each clip and service, and the limit."""
    figure = Figure(figsize=(10, 4.5), layout="constrained")
    axes = figure.add_subplot()
    rows = [row for row in found["rows"] if row["part"] == "clips"]
    clips = list(dict.fromkeys(row["clip"] for row in rows))
    series: dict[str, dict[str, float]] = {}
    for row in rows:
        names = f"names {row['names']}" if row["service"].startswith("ahse") else ""
        words = [row["service"], names, row["options"]]
        name = ", ".join(word for word in words if word)
        series.setdefault(name, {})[row["clip"]] = row["clips_per_s"]
    limits = {clip: limit(found, REAL, clip, 0) for clip in clips}
    series["limit, names known"] = {clip: rate for clip, rate in limits.items() if rate is not None}
    width = 0.8 / len(series)
    for index, (name, rates) in enumerate(series.items()):
        places = [clips.index(clip) + (index - len(series) / 2 + 0.5) * width for clip in rates]
        bars = axes.bar(places, list(rates.values()), width, label=name)
        axes.bar_label(bars, fmt="%.1f", fontsize=7)
    axes.set_xticks(range(len(clips)), clips)
    axes.set_ylabel("clips per second")
    most = max((row["clients"] for row in rows), default=0)
    axes.set_title(f"{most} clients, {found['machine']['cores']} cores, RANDOM weights")
    figure.legend(loc="outside lower center", ncols=4, fontsize=8)
    return figure


def growth_plot(found: dict[str, Any]) -> Figure:
    """Three panels, logarithmic: what a clip costs by its length and by names, and the wait by clients."""
    figure = Figure(figsize=(14, 5), layout="constrained")
    by_length, by_names, by_clients = figure.subplots(1, 3)
    rows = [row for row in found["rows"] if not row["options"] and row["service"] in _COLOURS]

    def seconds_a_clip(row: Row) -> float:
        return float(1 / row["clips_per_s"])

    def wait_s(row: Row) -> float:
        return float(row["p50_ms"]) / 1000

    alone = [row for row in rows if _is(row, clients=1, n_names=10, names="known")]
    _panel(by_length, alone, lambda row: CLIPS[row["clip"]].length_s, seconds_a_clip)
    _label(by_length, "length of the clip, s", "s a clip", "one client, ten known names")
    short = [row for row in rows if row["clip"] == BASE]
    _panel(by_names, _of_most_clients(short), lambda row: row["n_names"], seconds_a_clip)
    _label(by_names, "names in a request", "s a clip", f"{BASE}, as many clients as were tried")
    known = [row for row in short if _is(row, n_names=10, names="known")]
    _panel(by_clients, known, lambda row: row["clients"], wait_s)
    _label(by_clients, "clients", "median wait, s", f"{BASE}, ten known names")
    lines = {str(line.get_label()): line for axes in figure.axes for line in axes.get_lines()}
    figure.legend(list(lines.values()), list(lines), loc="outside lower center", ncols=4, fontsize=8)
    return figure


def _is(row: Row, **wanted: object) -> bool:
    return all(row[key] == value for key, value in wanted.items())


def _of_most_clients(rows: list[Row]) -> list[Row]:
    """Of rows that differ only in the number of clients, the one with most."""
    best: dict[tuple[Any, ...], Row] = {}
    for row in sorted(rows, key=lambda row: int(row["clients"])):
        best[tuple(row[key] for key in ("bundle", "service", "n_names", "names"))] = row
    return list(best.values())


def _panel(axes: Axes, rows: list[Row], across: Callable[[Row], float], up: Callable[[Row], float]) -> None:
    """A line for each service with each bundle and kind of names; the same colour is the same service."""
    lines: dict[tuple[str, str, str], list[tuple[float, float]]] = {}
    for row in rows:
        if row["bundle"] in (REAL, EVERYDAY):
            # To one that keeps no names, all are new.
            names = "encoded" if row["service"] == "straightforward" else row["names"]
            lines.setdefault((row["bundle"], row["service"], names), []).append((across(row), up(row)))
    for (bundle, service, names), points in sorted(lines.items(), reverse=True):
        x, y = zip(*sorted(points), strict=True)
        axes.plot(
            x,
            y,
            color=_COLOURS[service],
            linestyle="-" if bundle == REAL else ":",
            marker="o" if names == "known" else "^",
            label=f"{service}, {bundle}, names {names}",
        )
    measured = sorted({x for points in lines.values() for x, _ in points})
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xticks(measured, [f"{x:,g}" for x in measured], minor=False)
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter("{x:g}")


def _label(axes: Axes, across: str, up: str, title: str) -> None:
    axes.set_xlabel(across)
    axes.set_ylabel(up)
    axes.set_title(title, fontsize=10)
    axes.grid(visible=True, alpha=0.3)
