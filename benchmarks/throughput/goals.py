"""What was to be reached on two cores, beside what a run reached."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from benchmarks.throughput.points import BASE, EVERYDAY, HARDEST, REAL
from benchmarks.throughput.ratios import rows_of, share_of_limit

Row = dict[str, Any]


@dataclass(frozen=True)
class Goal:
    """One of them.

    Attributes:
        text: What was to be reached.
        wanted: The number, at least.
        measured: What was reached; None: this run did not measure it.
        detail: Which point that is, where there are several; empty: there is one.
    """

    text: str
    wanted: float
    measured: float | None
    detail: str = ""

    @property
    def verdict(self) -> str:
        """Met, or by how much of the wanted number it was missed."""
        if self.measured is None:
            return "not measured"
        missing = 1 - self.measured / self.wanted
        return "met" if missing <= 0 else f"missed by {100 * missing:.0f} %"


def goals(rows: list[Row], n_cores: int) -> list[Goal]:
    """All goals; the rows have their ratios."""
    base = _row(rows, bundle=REAL, clip=BASE, clients=32)
    hardest = _row(rows, bundle=REAL, clip=HARDEST, clients=32)
    everyday = _row(rows, bundle=EVERYDAY, clip=BASE, clients=32)
    beside, clip = "times the straightforward service", ", 360p GOP 30"
    return [
        Goal(f"{beside}{clip}, 32 clients", 12, _ratio(base, "straightforward")),
        Goal(f"times the one that keeps its names{clip}, 32 clients", 8, _ratio(base, "names kept")),
        Goal(f"{beside}, 1080p GOP 250, 32 clients", 5, _ratio(hardest, "straightforward")),
        _of_limits(rows),
        Goal(f"times shorter wait of a single client{clip}, median", 6, _times_shorter(rows)),
        Goal(
            f"clips a second and core, everyday bundle{clip}, 32 clients",
            3,
            None if everyday is None else everyday["clips_per_s"] / n_cores,
        ),
    ]


def _of_limits(rows: list[Row]) -> Goal:
    """The lowest share of the limit of all points with many clients."""
    shares = [(share, row["point"]) for row, share in _shares(rows)]
    n_met = sum(share >= 0.9 for share, _ in shares)
    lowest, point = min(shares, default=(None, ""))
    detail = f"lowest of {len(shares)}, {n_met} of which reach it: {point}" if shares else ""
    return Goal("of the limit with 32 clients, everywhere, new names included", 0.9, lowest, detail)


def _shares(rows: list[Row]) -> Iterator[tuple[Row, float]]:
    for row in rows:
        share = share_of_limit(row)
        if share is not None and row["clients"] == 32:
            yield row, share


def _times_shorter(rows: list[Row]) -> float | None:
    row = _row(rows, bundle=REAL, clip=BASE, clients=1)
    theirs = rows_of("straightforward", rows, row) if row else []
    waits = [float(one["p50_ms"]) for one in theirs if one["clients"] == 1]
    return waits[0] / row["p50_ms"] if row and waits else None


def _row(rows: list[Row], **wanted: object) -> Row | None:
    """This service with ten known names and default settings."""
    wanted |= {"service": "ahse", "n_names": 10, "names": "known", "options": ""}
    return next((row for row in rows if all(row[key] == value for key, value in wanted.items())), None)


def _ratio(row: Row | None, opponent: str) -> float | None:
    return None if row is None else row["ratios"].get(opponent)
