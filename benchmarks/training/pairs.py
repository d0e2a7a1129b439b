"""Two rows of a comparison beside each other, seed by seed.

    python -m benchmarks.training.pairs RUNS/product RUNS/product_per_sample

Both are folders of seed_<s> that `ahse evaluate` has measured. Prints a Markdown table: both rows, and the
mean of the first less the second over the seeds that both have, with its 95 % interval (Student's t); by the
embedding, fused with the raw similarities, and fused for clips with one track alone.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

from model_export.data.gzsl_data import Track
from model_export.errors import RunError
from model_export.head.evaluation import RankedBy
from model_export.report.comparison import gain
from model_export.report.measurements import MeasuredRun
from model_export.report.tables import Method, Table, data_title

VIEWS: Final[dict[str, tuple[RankedBy, Track]]] = {
    "embedding": ("embedding", "both"),
    "fused": ("fused", "both"),
    "picture only": ("fused", "visual"),
    "sound only": ("fused", "audio"),
}
FIGURES: Final = ("S", "U", "HM", "ZSL", "hubness")


def main() -> None:
    """Compare the two folders named on the command line."""
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    first, second = (row_of(Path(argument)) for argument in sys.argv[1:])
    sys.stdout.write(compare(first, second).markdown() + "\n")


def row_of(folder: Path) -> Method:
    """The measured runs of one row.

    Raises:
        RunError: there are none, or one was not evaluated.
    """
    runs = [MeasuredRun.load(path) for path in folder.glob("seed_*")]
    if not runs:
        raise RunError(f"{folder} holds no seed_<s>; name the folder of one row")
    return Method(folder.name, tuple(sorted(runs, key=lambda run: run.config.head.seed)))


def compare(first: Method, second: Method) -> Table:
    """One line for each ranking and figure that was measured of all runs."""
    rows = [
        (
            f"{figure}, {view}",
            first.figure(figure, *measured).shown(),
            second.figure(figure, *measured).shown(),
            difference.gain_shown(),
            ", ".join(f"{value:+.2f}" for value in difference.values),
        )
        for view, measured in VIEWS.items()
        if all(run.has(*measured) for run in (*first.runs, *second.runs))
        for figure in FIGURES
        if (difference := gain(first, second, figure, *measured))
    ]
    columns = ("figure", first.name, second.name, "difference", "by seed")
    return Table(f"{first.name} less {second.name}, {data_title([first, second])}", columns, tuple(rows))


if __name__ == "__main__":
    main()
