"""Ratios, goals, tables and plots of a throughput run, from made-up figures."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.throughput import __main__ as throughput
from benchmarks.throughput.goals import goals
from benchmarks.throughput.points import BASE, EVERYDAY, HARDEST, OPPONENTS, REAL, Point, all_points
from benchmarks.throughput.ratios import add_ratios, largest_difference
from benchmarks.throughput.report import write_figures, write_report

Row = dict[str, Any]


def test_a_ratio_is_to_the_most_that_an_opponent_answered() -> None:
    """With any number of clients: it has one request at a time in work, and may be slower with many."""
    rows = [_row("ahse", 32, 6.0), _row("straightforward", 32, 0.5), _row("straightforward", 8, 0.6)]
    add_ratios(_found(rows))
    assert rows[0]["ratios"] == {"straightforward": pytest.approx(10.0)}


def test_new_names_are_compared_with_the_opponent_that_keeps_none() -> None:
    """To it all names are new, and to the other one these are not."""
    rows = [_row("ahse", 32, 3.0, names="new"), *(_row(who, 32, 0.5) for who in OPPONENTS)]
    add_ratios(_found(rows))
    assert rows[0]["ratios"] == {"straightforward": pytest.approx(6.0)}


def test_ratios_compare_the_same_clip_and_names_and_models() -> None:
    """Anything else would be another question."""
    others: list[Row] = [{"clip": HARDEST}, {"n_names": 1_000}, {"bundle": EVERYDAY}]
    others.append({"options": "segment_s=10"})
    rows = [_row("ahse", 32, 6.0), *(_row("straightforward", 32, 0.5, **other) for other in others)]
    add_ratios(_found(rows))
    assert rows[0]["ratios"] == {}


def test_goals_say_what_was_met_and_by_how_much_others_were_missed() -> None:
    """Each from its own rows."""
    rows = [
        _row("ahse", 32, 6.0),
        _row("names kept", 32, 1.0),
        _row("straightforward", 32, 0.5, p50_ms=9000.0),
        _row("ahse", 32, 2.0, names="new", point="new names"),
        _row("ahse", 1, 3.0, p50_ms=300.0),
        _row("straightforward", 1, 0.5, p50_ms=1500.0),
        _row("ahse", 32, 8.0, bundle=EVERYDAY),
    ]
    found = _found(rows)
    # Medians of which one second each is 1/6.5 for a clip, and 1/2.5 with its names.
    graphs = {"visual": [26.0, 13.0, 1.0], "text_visual": [1 / (1 / 2.5 - 1 / 6.5)]}
    found["limits"][REAL] = {"graphs": graphs, "decoding": {BASE: [13.0]}}
    found["limits"][EVERYDAY] = {"graphs": {"visual": [16.2]}, "decoding": {BASE: [16.2, 16.2]}}
    add_ratios(found)
    reached = goals(rows, 2)
    assert [goal.verdict for goal in reached] == [
        "met",
        "missed by 25 %",
        "not measured",
        "missed by 11 %",
        "missed by 17 %",
        "met",
    ]
    assert reached[3].measured == pytest.approx(0.8)
    assert reached[3].detail == "lowest of 3, 2 of which reach it: new names"


def test_similarities_of_the_same_clip_are_compared() -> None:
    """Between services, not between clips."""
    rows = [
        _row("ahse", 32, 1.0, similarities={"dog": [0.5, 0.25]}),
        _row("straightforward", 32, 1.0, similarities={"dog": [0.5, 0.125]}),
        _row("straightforward", 32, 1.0, clip=HARDEST, similarities={"dog": [0.0, 0.0]}),
    ]
    assert largest_difference(rows) == pytest.approx(0.125)


def test_a_report_is_written_after_each_part(tmp_path: Path) -> None:
    """With what there is by then: an interrupted run loses nothing."""
    points = all_points("cpu", "usual")
    for n in (1, len(points)):
        found = _found([_row_of(point) for point in points[:n]])
        write_report(found, tmp_path)
        assert len(json.loads((tmp_path / "throughput.json").read_text())["rows"]) == n
        text = (tmp_path / "throughput.md").read_text()
        assert f"| {REAL} | 1,000 | 812 |" in text
        assert "| 8.50 (8.5 to 8.5, n=1) | 8.50 (8.0 to 9.0, n=2) |" in text
        assert text.count(f"| {points[0].clip} | 10 known | 32 | ahse | 4.00 |") >= 1
        assert (tmp_path / "throughput.png").stat().st_size > 0
        assert (tmp_path / "growth.png").stat().st_size > 0


def test_a_report_of_a_gpu_says_how_it_was_used(tmp_path: Path) -> None:
    """Busy, and memory; and nothing of what was to be reached on two cores."""
    found = _found([_row_of(point) for point in all_points("cuda", "usual")])
    found["machine"]["GPU"] = "a card"
    found["rows"][0] |= {"gpu_busy_percent": 71.25, "gpu_memory_mib": 4321.0}
    write_report(found, tmp_path)
    text = (tmp_path / "throughput.md").read_text()
    assert "| GPU busy % | GPU MiB |" in text
    assert "| 71.2 | 4321 |" in text
    assert "## Goals" not in text


def test_results_of_another_machine_are_not_gone_on_with(
    tmp_path: Path, toy_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor of other versions or bundles: ratios would compare what was never measured together."""
    options = argparse.Namespace(out=tmp_path, device="cpu", resume=True)
    begun = throughput.begin(options, {REAL: toy_bundle})
    write_figures(begun | {"rows": [_row("ahse", 32, 6.0)]}, tmp_path)
    assert len(throughput.begin(options, {REAL: toy_bundle})["rows"]) == 1
    monkeypatch.setattr(throughput, "describe_machine", lambda: begun["machine"] | {"processor": "another"})
    with pytest.raises(SystemExit, match="of another machine, other versions or bundles"):
        throughput.begin(options, {REAL: toy_bundle})


@pytest.mark.parametrize(
    ("title", "bundle", "clip"),
    [
        ("360p, a key frame a second", REAL, BASE),
        ("1080p, two key frames", REAL, HARDEST),
        ("360p, everyday bundle, all with onnxruntime", EVERYDAY, BASE),
    ],
)
def test_the_readme_shows_the_committed_figures(title: str, bundle: str, clip: str) -> None:
    """Known names, many clients; of the other services the most that they answered."""
    root = Path(__file__).resolve().parents[3]
    rows = json.loads((root / "benchmarks/results/throughput.json").read_text())["rows"]
    asked = {"bundle": bundle, "clip": clip, "n_names": 10, "names": "known", "options": ""}
    same = [row for row in rows if all(row[key] == value for key, value in asked.items())]
    theirs = [max(row["clips_per_s"] for row in same if row["service"] == one) for one in OPPONENTS]
    ours = next(row["clips_per_s"] for row in same if (row["service"], row["clients"]) == ("ahse", 32))
    cells = [title, *(f"{rate:.2f}" for rate in theirs), f"{ours:.2f}, {ours / theirs[0]:.1f} x"]
    assert "| " + " | ".join(cells) in (root / "README.md").read_text()


def _found(rows: list[Row]) -> dict[str, Any]:
    limits = {"graphs": {"visual": [8.0, 9.0]}, "decoding": {BASE: [8.5]}}
    return {
        "machine": {"cores": "2"},
        "precision": {"straightforward": "fp32", "ahse": "int8"},
        "limits": {REAL: limits},
        "ranking": {REAL: {"1000": 812.3}},
        "rows": rows,
    }


def _row_of(point: Point) -> Row:
    return _row(
        point.service,
        point.clients,
        4.0,
        part=point.part,
        bundle=point.bundle,
        clip=point.clip,
        n_names=point.n_names,
        names=point.names,
        options=point.options,
        point=str(point),
    )


def _row(service: str, clients: int, clips_per_s: float, **others: Any) -> Row:
    row = {"part": "clips", "bundle": REAL, "clip": BASE, "n_names": 10, "names": "known", "options": ""}
    row |= {"p50_ms": 100.0, "p95_ms": 200.0, "n_requests": 8, "peak_memory_mib": 1000.0}
    row |= {"gpu_busy_percent": None, "gpu_memory_mib": None, "point": "a point", "ratios": {}}
    return row | {"service": service, "clients": clients, "clips_per_s": clips_per_s} | others
