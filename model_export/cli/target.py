"""Where a new bundle may be written, and what it may be called."""

from __future__ import annotations

import re
from pathlib import Path

from model_export.errors import RunError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def check_target(out: Path, name: str) -> None:
    """Refuse a target that the writer would refuse after minutes of work.

    Raises:
        RunError: something stands there, or requests could not choose a bundle of that name.
    """
    if out.exists():
        raise RunError(f"{out} exists already; choose another directory or remove it")
    if not _NAME.fullmatch(name):
        raise RunError(
            f"{name!r} can't be a bundle's name: letters, digits, dots, dashes and underscores, at most 64, "
            "the first a letter or digit; choose one with --name"
        )
