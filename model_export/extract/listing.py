"""Find the clips: a folder with one folder per class, or a CSV of path,label[,split]."""

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from model_export.data.gzsl_data import SPLIT_NAMES, SplitName
from model_export.data.splits import PARTS, Part
from model_export.errors import DatasetError, Problem
from service.errors import LabelError
from service.labels.label import label_key, make_label

_WORDS: Final = (*PARTS, *SPLIT_NAMES)


@dataclass(frozen=True)
class ListedClip:
    """One file of a folder or CSV.

    Attributes:
        path: Of the file.
        name: Its path in the listing, with slashes; unique.
        label: Name of its class.
        split: The split or part that a CSV gives; None where it gives none.
    """

    path: Path
    name: str
    label: str
    split: Part | SplitName | None = None


@dataclass(frozen=True)
class Listing:
    """The clips of a folder or CSV.

    Attributes:
        clips: Sorted by name.
        from_folder: Whether files were found rather than named; one that is not media is then no mistake.
        n_ignored: Files that were skipped: hidden ones, and those outside of class folders.
    """

    clips: tuple[ListedClip, ...]
    from_folder: bool
    n_ignored: int = 0


def list_clips(source: Path) -> Listing:
    """List the clips of a folder or of a CSV; no clip is opened.

    Raises:
        DatasetError: Nothing is there, or a row or a class name is wrong; lists every problem.
    """
    if not source.exists():
        raise DatasetError(source, [Problem(str(source), "no such file or folder")])
    listing = _of_folder(source) if source.is_dir() else _of_csv(source)
    problems = list(_problems(listing.clips))
    if not listing.clips:
        wanted = (
            "a folder for each class, named as the class, with its clips"
            if listing.from_folder
            else "a row for each clip below the row path,label"
        )
        problems.append(Problem(source.name, f"holds no clip; it should have {wanted}"))
    if problems:
        raise DatasetError(source, problems)
    return listing


def _of_folder(root: Path) -> Listing:
    clips, n_ignored = [], 0
    for path in sorted(path for path in root.rglob("*") if path.is_file()):
        parts = path.relative_to(root).parts
        if len(parts) < 2 or any(part.startswith(".") for part in parts):
            n_ignored += 1
        else:
            clips.append(ListedClip(path, "/".join(parts), _clean(parts[0])))
    return Listing(tuple(clips), from_folder=True, n_ignored=n_ignored)


def _of_csv(file: Path) -> Listing:
    try:
        with file.open(encoding="utf-8-sig", newline="") as opened:
            rows = list(csv.DictReader(opened, restval=""))
    except (UnicodeDecodeError, csv.Error) as error:
        what = "neither a folder nor a CSV in UTF-8 with the columns path and label"
        raise DatasetError(file, [Problem(file.name, what)]) from error
    columns = list(rows[0]) if rows else ["path", "label"]
    missing = [name for name in ("path", "label") if name not in columns]
    if missing:
        named = ", ".join(repr(column) for column in columns)
        what = f"has no column {' and no column '.join(missing)}; its first row is {named[:200]}"
        raise DatasetError(file, [Problem(file.name, what)])
    clips = sorted((_of_row(file.parent, row) for row in rows), key=lambda clip: clip.name)
    return Listing(tuple(clips), from_folder=False)


def _of_row(folder: Path, row: dict[str, str]) -> ListedClip:
    """A clip as its row states it, valid or not."""
    name, split = row["path"].strip(), row["split"].strip() if "split" in row else None
    # A word that is not allowed is reported together with all other problems.
    return ListedClip(folder / name, name, _clean(row["label"]), split)  # type: ignore[arg-type]


def _clean(label: str) -> str:
    """A label normalised as in the service, or unchanged where that is not possible."""
    try:
        return make_label(label).name
    except LabelError:
        return label


def _problems(clips: Sequence[ListedClip]) -> Iterator[Problem]:
    """Every fault of a listing, each once."""
    names: set[str] = set()
    labels: dict[str, str] = {}
    for clip in clips:
        where = clip.name or "a row without a path"
        if not clip.name:
            yield Problem(where, f"its label is {clip.label!r}")
        elif clip.name in names:
            yield Problem(where, "is listed twice")
        names.add(clip.name)
        if clip.split is not None and clip.split not in _WORDS:
            yield Problem(where, f"split {clip.split!r} is none of {', '.join(_WORDS)}")
        if label_key(clip.label) not in labels:
            labels[label_key(clip.label)] = clip.label
            yield from _label_problems(where, clip.label)
        elif (first := labels[label_key(clip.label)]) != clip.label:
            yield Problem(where, f"labels {first!r} and {clip.label!r} differ in case or spacing only")


def _label_problems(where: str, label: str) -> Iterator[Problem]:
    try:
        make_label(label)
    except LabelError as error:
        yield Problem(where, error.message)


def list_unlabelled(folder: Path) -> Listing:
    """Every file in a folder and below that is not hidden; files that are not media are skipped later.

    Raises:
        DatasetError: There is no such folder.
    """
    if not folder.is_dir():
        raise DatasetError(folder, [Problem(str(folder), "no such folder of clips")])
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    shown = [path for path in paths if not any(p.startswith(".") for p in path.relative_to(folder).parts)]
    clips = tuple(ListedClip(path, path.relative_to(folder).as_posix(), label="") for path in shown)
    return Listing(clips, from_folder=True, n_ignored=len(paths) - len(shown))
