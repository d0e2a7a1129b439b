"""How rows of a run compare: this service with the straightforward one, and with the limits."""

from __future__ import annotations

from typing import Any

from benchmarks.points import OPPONENTS

Row = dict[str, Any]


def add_ratios(rows: list[Row]) -> None:
    """Give each row of this service `ratios` of clips per second: one for each opponent with such a row."""
    for row in rows:
        row["ratios"] = {}
        if row["service"].startswith("ahse"):
            for opponent in OPPONENTS:
                beside = opponent_of(rows, row, opponent)
                if beside is not None:
                    row["ratios"][opponent] = row["clips_per_s"] / beside["clips_per_s"]


def opponent_of(rows: list[Row], row: Row, opponent: str) -> Row | None:
    """The row to compare with: the same clip, segments, names and models; as many clients if there is one.

    An opponent works on one request at a time, so with other numbers of clients it answers as many clips in a
    second; then the row in which it answered most counts. One that encodes names in every request knows none.
    """
    same = [
        other
        for other in rows
        if other["service"] == opponent
        and all(other[key] == row[key] for key in ("bundle", "clip", "n_names"))
        and ("segment_s" in other["options"]) == ("segment_s" in row["options"])
        and (opponent == "straightforward" or other["names"] == row["names"])
    ]
    exact = [other for other in same if other["clients"] == row["clients"]]
    return max(exact or same, key=lambda other: float(other["clips_per_s"]), default=None)


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
