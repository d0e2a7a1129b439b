"""What a training takes: seconds and memory, kept in its run folder (cost.json)."""

from __future__ import annotations

import contextlib
from datetime import date
from pathlib import Path
from typing import Final, Self

from pydantic import BaseModel, ConfigDict, ValidationError

FILE: Final = "cost.json"
_STATUS = Path("/proc/self/status")
# Writing 5 there makes the kernel forget the largest resident memory so far (proc_pid_clear_refs(5)).
_CLEAR_REFS = Path("/proc/self/clear_refs")


class Cost(BaseModel):
    """Contents of cost.json.

    Attributes:
        seconds: Of all epochs, on the wall clock.
        peak_memory_mib: Largest resident memory of the process since training began or went on, data and
            libraries included; None where the system does not tell.
        finished: Day on which training ended, UTC.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    seconds: float
    peak_memory_mib: float | None
    finished: date

    @classmethod
    def load(cls, path: Path) -> Self | None:
        """The cost of the run in a folder; None for runs of earlier versions."""
        try:
            return cls.model_validate_json((path / FILE).read_text(encoding="utf-8"))
        except (OSError, ValidationError):
            return None


def forget_peak_memory() -> None:
    """Begin to measure `peak_memory_mib` anew, where the system can."""
    with contextlib.suppress(OSError):
        _CLEAR_REFS.write_text("5", encoding="ascii")


def peak_memory_mib() -> float | None:
    """Largest resident memory of the process; None where the system does not tell."""
    try:
        lines = _STATUS.read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")), None)
