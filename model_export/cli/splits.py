"""What the commands that split clips share: options, the check of OUT, the table of what was chosen."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from model_export.data.feature_file import SUFFIX
from model_export.data.features import GzslData
from model_export.errors import DatasetError, Problem
from model_export.report.tables import Table
from service.labels.label import make_label

Seed = Annotated[int, typer.Option(min=0, help="Chooses classes and clips; the same seed, the same choice.")]
Unseen = Annotated[
    list[str] | None,
    typer.Option(
        help="Class that shall be unseen in the test, or a file with one a line; repeat for several. "
        "Default: a fifth of the classes by chance."
    ),
]


def read_unseen(given: Sequence[str] | None) -> list[str]:
    """The names that the option gives, files read, in the form that labels have.

    Raises:
        LabelError: a name is no label.
    """
    files = [(text, Path(text).is_file()) for text in given or ()]
    lines = [[text] if not is_file else Path(text).read_text("utf-8").splitlines() for text, is_file in files]
    return [make_label(name).name for one in lines for name in one if name.strip()]


def check_new_feature_file(out: Path) -> None:
    """Refuse a name that no feature file can be written under.

    Raises:
        DatasetError: it has another ending, or something is there.
    """
    if out.suffix != SUFFIX:
        raise DatasetError(out, [Problem("OUT", f"the name of a feature file ends in {SUFFIX}")])
    if out.exists():
        raise DatasetError(out, [Problem("OUT", "exists already; choose another name or remove it")])


def split_table(data: GzslData) -> str:
    """How many classes and clips each split has, and which classes are unseen."""
    rows = tuple((split, str(len(c.classes())), str(len(c))) for split, c in data.named_splits())
    unseen = [
        f"{split}: {', '.join(data.class_names[i] for i in clips.classes())}"
        for split, clips in data.named_splits()
        if split.endswith("_unseen")
    ]
    title = f"{data.name}: {len(data.class_names)} classes"
    return "\n".join([Table(title, ("split", "classes", "clips"), rows).text(), *unseen])
