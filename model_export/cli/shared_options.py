"""What the training commands share: options and checks that several of them have.

The files of this folder import nothing heavy at module level, so that every `--help` answers at once, also
where the training packages are missing. Commands import what they need when they run.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from model_export.errors import DatasetError, Problem, RunError

if TYPE_CHECKING:
    from model_export.data.gzsl_data import GzslData

Seed = Annotated[
    int, typer.Option(min=0, help="Decides classes and clips; the same seed gives the same splits.")
]
Unseen = Annotated[
    list[str] | None,
    typer.Option(
        help="Class that is unseen in the test, or a file with one a line; repeat for several. "
        "Default: a random fifth of the classes."
    ),
]
BundleName = Annotated[
    str | None,
    typer.Option(help="Name by which requests choose the bundle; default: that of the directory."),
]
_BUNDLE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def command_of(words: Sequence[str], options: Mapping[str, object], name: str, out: Path) -> str:
    """The command that makes a bundle again, for its provenance.

    Args:
        words: The command and its arguments.
        options: Value by option, without this machine's paths; left out where it is None or False, alone
            where it is True, and repeated with each value of a list.
        name: Of the bundle.
        out: Its directory, of which the command has the name only.
    """
    given = list(words)
    named = None if name == out.name else name
    for option, value in {**options, "--name": named, "--out": out.name}.items():
        if value is True:
            given.append(option)
        elif value is not None and value is not False:
            for one in value if isinstance(value, list) else [value]:
                given += [option, str(one)]
    return shlex.join(given)


def check_new_bundle(out: Path, name: str) -> None:
    """Refuse a target before minutes of work that the writer would refuse afterwards.

    Raises:
        RunError: The directory exists, or the name can't be a bundle's.
    """
    if out.exists():
        raise RunError(f"{out} exists already; choose another directory or remove it")
    if not _BUNDLE_NAME.fullmatch(name):
        raise RunError(
            f"{name!r} can't be a bundle's name: letters, digits, dots, dashes and underscores, at most 64, "
            "the first a letter or digit; choose one with --name"
        )


def check_new_feature_file(out: Path) -> None:
    """Refuse a path that no feature file can be written to.

    Raises:
        DatasetError: It has another ending, or exists.
    """
    from model_export.data.feature_file import SUFFIX

    if out.suffix != SUFFIX:
        raise DatasetError(out, [Problem("OUT", f"the name of a feature file ends in {SUFFIX}")])
    if out.exists():
        raise DatasetError(out, [Problem("OUT", "exists already; choose another name or remove it")])


def read_unseen(given: Sequence[str] | None) -> list[str]:
    """The names of the option `--unseen`, files replaced by their lines, normalised as labels.

    Raises:
        LabelError: A name can't be a label.
        DatasetError: A file is no text in UTF-8, or there is no name.
    """
    from service.labels.label import make_label

    return [make_label(name).name for text in given or () for name in _names_of(text)]


def _names_of(text: str) -> list[str]:
    """The name that was given, or those of the file that was."""
    is_file = os.path.isfile(text)  # noqa: PTH113  (unlike is_file, it answers for a long name too)
    try:
        lines = Path(text).read_text("utf-8-sig").splitlines() if is_file else [text]
    except UnicodeDecodeError:
        raise DatasetError(
            text, [Problem("--unseen", "the file is no text in UTF-8; save it as one")]
        ) from None
    names = [line for line in lines if line.strip()]
    if not names:
        what = "there is no class name in it; give one, or one a line in a file"
        raise DatasetError(text or "--unseen", [Problem("--unseen", what)])
    return names


def split_table(data: GzslData) -> str:
    """How many classes and clips each split has, and which classes are unseen."""
    from model_export.report.tables import Table

    rows = tuple((split, str(len(c.classes())), str(len(c))) for split, c in data.named_splits())
    unseen = [
        f"{split}: {', '.join(data.class_names[i] for i in clips.classes())}"
        for split, clips in data.named_splits()
        if split.endswith("_unseen")
    ]
    title = f"{data.name}: {len(data.class_names)} classes"
    return "\n".join([Table(title, ("split", "classes", "clips"), rows).text(), *unseen])
