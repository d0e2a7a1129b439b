"""How rows of a run compare: this service with the straightforward one, and with the limits."""

from __future__ import annotations

import math
from statistics import median
from typing import Any

from benchmarks.throughput.limits import together
from benchmarks.throughput.points import DECODING, OPPONENTS, BenchmarkDevice

Row = dict[str, Any]


def add_ratios(found: Row) -> None:
    """Give each row of this service `ratios` of clips per second, and the `limit`.

    A ratio is to the most that an opponent answered of the same with any number of clients: it works on one
    request at a time, so it can't be said that its queue made it slow.
    """
    for row in found["rows"]:
        row["ratios"], row["limit"] = {}, None
        if not row["service"].startswith("ahse"):
            continue
        row["limit"] = _limit_of(found, row)
        for opponent in OPPONENTS:
            beside = [other["clips_per_s"] for other in rows_of(opponent, found["rows"], row)]
            if beside:
                row["ratios"][opponent] = row["clips_per_s"] / max(beside)


def rows_of(opponent: str, rows: list[Row], row: Row) -> list[Row]:
    """Those of an opponent that was asked the same: clip, segments, names and models.

    To one that encodes names in every request none are known.
    """
    return [
        other
        for other in rows
        if other["service"] == opponent
        and all(other[key] == row[key] for key in ("bundle", "clip", "n_names"))
        and ("segment_s" in other["options"]) == ("segment_s" in row["options"])
        and (opponent == "straightforward" or other["names"] == row["names"])
    ]


def _limit_of(found: Row, row: Row) -> float | None:
    """Clips per second that the machine allows; None: other work than that of the limits is done."""
    if row["service"] not in DECODING or row["options"]:
        return None
    n_new = row["n_names"] if row["names"] == "new" else 0
    return limit(found, row["bundle"], row["clip"], n_new, row["n_names"])


def limit(found: Row, bundle: str, clip: str, n_new: int, n_names: int = 0) -> float | None:
    """Clips per second by the medians of a run's measurements; None: there are none for such a clip."""
    rounds = found["limits"].get(bundle, {})
    if clip not in rounds.get("decoding", {}):
        return None
    graphs = {graph: median(rates) for graph, rates in rounds["graphs"].items()}
    ranking = found["ranking"].get(bundle, {}).get(str(n_names), math.inf)
    device: BenchmarkDevice = "cuda" if "GPU" in found["machine"] else "cpu"
    return together(graphs, median(rounds["decoding"][clip]), n_new, device, ranking)


def share_of_limit(row: Row) -> float | None:
    """Of what the machine allows; None: there is no limit to compare with."""
    return row["clips_per_s"] / row["limit"] if row["limit"] else None


def largest_difference(rows: list[Row]) -> float | None:
    """Of a similarity between this service and an opponent, over clips that both were asked about.

    None: there are none yet.
    """
    told = [row for row in rows if "similarities" in row]
    differences = [
        abs(one - other)
        for ours in told
        for theirs in told
        if ours["service"] == "ahse" and theirs["service"] in OPPONENTS and ours["clip"] == theirs["clip"]
        for label, similarities in ours["similarities"].items()
        for one, other in zip(similarities, theirs["similarities"][label], strict=True)
    ]
    return max(differences, default=None)
