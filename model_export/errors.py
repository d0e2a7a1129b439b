"""The typed errors of model_export: why a command of training or export can't do what it was asked.

    AhseError                     service.errors
    ├── DatasetError              dataset_invalid    a data set can't be used; lists every problem found
    ├── RunError                  run_unusable       a run folder can't be used, or training can't go on
    ├── HubError                  hub_failed         a model file can't be obtained
    │   └── PinError              pin_mismatch       a file is there, but is not the pinned one
    ├── EncoderError              encoder_refused    a model can't become an encoder of a bundle
    └── ExportError               export_failed      a module can't be written as a graph
        ├── ParityError           parity             a graph does not compute what its torch module computes
        └── PrecisionError        precision          no smaller precision is close enough to fp32

A message is written for the person at the terminal: what is wrong and what to do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from service.errors import AhseError


@dataclass(frozen=True)
class Problem:
    """One fault of a data set.

    Attributes:
        file: Path, relative to the data set where it lies inside; or the name of a split or an array.
        what: One sentence without the file's name.
        row: Position in the file, counted from 0; None where the whole file is meant.
    """

    file: str
    what: str
    row: int | None = None

    def __str__(self) -> str:
        where = self.file if self.row is None else f"{self.file}, row {self.row}"
        return f"{where}: {self.what}"


class DatasetError(AhseError):
    """A data set can't be used; lists every problem that was found.

    Args:
        root: Which data set.
        problems: At least one.
    """

    code = "dataset_invalid"

    def __init__(self, root: str | Path, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        plural = "problem" if len(self.problems) == 1 else "problems"
        self._title = f"{root}: {len(self.problems)} {plural}"
        super().__init__("\n".join(self.lines))

    @property
    def lines(self) -> tuple[str, ...]:
        """A line for each problem."""
        return (self._title, *(f"  {problem}" for problem in self.problems))


class RunError(AhseError):
    """A run folder can't be used, or training can't go on; the message says why and what to do."""

    code = "run_unusable"


class HubError(AhseError):
    """A model file can't be obtained; the message names the file and says what to do."""

    code = "hub_failed"


class PinError(HubError):
    """A file is there, but it is not the one that is pinned."""

    code = "pin_mismatch"


class EncoderError(AhseError):
    """A model, its weights or its tokenizer is not what the export needs; the message says what to do."""

    code = "encoder_refused"


class ExportError(AhseError):
    """A module can't be written as a graph."""

    code = "export_failed"


class ParityError(ExportError):
    """A graph does not compute what its torch original computes."""

    code = "parity"


class PrecisionError(ExportError):
    """A smaller graph is too far from fp32."""

    code = "precision"
