"""Candidate names of a command line: --label, repeated, and --labels-file."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from service.errors import InvalidOptionError

_REMEDY = (
    "Give a list as repeated options (--label dog --label cat) or in a file (--labels-file); give one name "
    "with a comma in such a file."
)

Labels = Annotated[list[str] | None, typer.Option("--label", help="Candidate name; repeat for each.")]
LabelsFile = Annotated[
    Path | None,
    typer.Option(
        help="File of names: one a line, where empty lines and lines that begin with # are left out, or a "
        "JSON array; - for standard input."
    ),
]


def read_names(given: Sequence[str] | None, file: Path | None) -> tuple[str, ...]:
    """All names, those of options first.

    Args:
        given: From options.
        file: A further list.

    Raises:
        AmbiguousLabelsError: One option alone, which may be a list.
        InvalidOptionError: The file can't be read, or is no list of names.
    """
    from service.labels.label import check_lone_label

    names = [*(given or ()), *([] if file is None else _read(file))]
    if given and len(names) == 1:
        check_lone_label(names[0], _REMEDY)
    return tuple(names)


def as_file(names: Sequence[str]) -> str:
    """Names as the text of a --labels-file: one a line, or a JSON array if lines would be read otherwise."""
    lines = "".join(f"{name}\n" for name in names)
    is_read_so = not lines.lstrip().startswith("[") and _names_in(lines) == [*names]
    return lines if is_read_so else json.dumps([*names], ensure_ascii=False) + "\n"


def _read(path: Path) -> list[str]:
    if str(path) == "-" and sys.stdin is None:  # closed by whoever started the program
        raise InvalidOptionError("--labels-file - reads standard input, which is closed")
    try:
        text = sys.stdin.read() if str(path) == "-" else path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidOptionError(f"--labels-file can't be read as UTF-8 text: {path}") from error
    return _names_in(text)


def _names_in(text: str) -> list[str]:
    if not text.lstrip().startswith("["):
        lines = (line.strip() for line in text.splitlines())
        return [line for line in lines if line and not line.startswith("#")]
    try:
        names = json.loads(text)
    except ValueError as error:
        raise InvalidOptionError("--labels-file starts with [ but is not a JSON array") from error
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InvalidOptionError("--labels-file must be a JSON array of strings")
    return names
