"""What is wrong with a data set, said once per problem and all at once.

There is one error type:

    DatasetError ── .problems: Problem(file, row, what), ...
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Problem:
    """One thing to mend.

    Attributes:
        file: path, relative to the data set where it lies inside; or the name of a split.
        what: one sentence without the file's name.
        row: position in the file, counted from 0; None where the whole file is meant.
    """

    file: str
    what: str
    row: int | None = None

    def __str__(self) -> str:
        where = self.file if self.row is None else f"{self.file}, row {self.row}"
        return f"{where}: {self.what}"


class DatasetError(Exception):
    """A data set cannot be used; lists every problem that was found.

    Args:
        root: which data set.
        problems: at least one.
    """

    def __init__(self, root: str | Path, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        listed = "\n".join(f"  {problem}" for problem in self.problems)
        plural = "problem" if len(self.problems) == 1 else "problems"
        super().__init__(f"{root}: {len(self.problems)} {plural}\n{listed}")
