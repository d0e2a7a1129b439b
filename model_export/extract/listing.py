"""Find the clips: a folder with one folder per class, or a CSV of path,label[,split]."""

import csv
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from model_export.data.gzsl_data import SPLIT_NAMES, SplitName
from model_export.data.splits import PARTS, Part
from model_export.errors import DatasetError, Problem
from service.cli.clip_files import kind_of
from service.errors import LabelError
from service.labels.label import label_key, make_label

_WORDS: Final = (*PARTS, *SPLIT_NAMES)
_HEAD_BYTES: Final = 1024  # which tell a still image


@dataclass(frozen=True)
class ListedClip:
    """One file of a folder or CSV.

    Attributes:
        path: Of the file.
        name: Its path in the listing, with slashes; unique. Bytes that are not UTF-8 are written as escapes.
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
        n_ignored: Files that were skipped: hidden ones, those outside of class folders, and still images.
        n_images: How many of them are still images.
        not_entered: Folders below it that were not looked into, each with the reason.
    """

    clips: tuple[ListedClip, ...]
    from_folder: bool
    n_ignored: int = 0
    n_images: int = 0
    not_entered: tuple[Problem, ...] = ()


def list_clips(source: Path) -> Listing:
    """List the clips of a folder or of a CSV; no clip is decoded.

    Raises:
        DatasetError: Nothing is there, or a row or a class name is wrong; lists every problem.
    """
    if not source.exists():
        raise DatasetError(source, [Problem(str(source), "no such file or folder")])
    problems: list[Problem] = []
    listing = _of_folder(source, labelled=True) if source.is_dir() else _of_csv(source, problems)
    problems += _problems(listing.clips)
    if not listing.clips and not problems:
        wanted = (
            "a folder for each class, named as the class, with its clips"
            if listing.from_folder
            else "a row for each clip below the row path,label"
        )
        problems.append(Problem(source.name, f"holds no clip; it should have {wanted}"))
        if n := listing.n_images:
            problems.append(Problem(source.name, f"its {n} still images count as clips only in a CSV"))
        problems += listing.not_entered
    if problems:
        raise DatasetError(source, problems)
    return listing


def list_unlabelled(folder: Path) -> Listing:
    """Every file in a folder and below that is neither hidden nor a still image, each once.

    Files that are not media are skipped later.

    Raises:
        DatasetError: There is no such folder, or there are only still images in it.
    """
    if not folder.is_dir():
        raise DatasetError(folder, [Problem(str(folder), "no such folder of clips")])
    listing = _of_folder(folder, labelled=False)
    if listing.n_images and not listing.clips:
        what = f"holds {listing.n_images} still images and no clip"
        raise DatasetError(folder, [Problem(folder.name, what)])
    files: dict[str, ListedClip] = {}
    for clip in listing.clips:
        files.setdefault(_real_path(clip.path), clip)
    return replace(listing, clips=tuple(files.values()))


def _of_folder(root: Path, *, labelled: bool) -> Listing:
    """The clips of a folder and below, labelled by the outermost folder, or not at all."""
    clips, n_ignored, n_images = [], 0, 0
    not_entered: list[Problem] = []
    for path in _files(root, not_entered):
        parts = path.relative_to(root).parts
        if (labelled and len(parts) < 2) or any(part.startswith(".") for part in parts):
            n_ignored += 1
        elif _is_still_image(path):  # most often the thumbnail of a clip beside it
            n_images += 1
        else:
            name = path_text("/".join(parts))
            clips.append(ListedClip(path, name, _clean(parts[0]) if labelled else ""))
    return Listing(
        tuple(sorted(clips, key=lambda clip: clip.name)),  # as ClipPool has them, for the same splits
        from_folder=True,
        n_ignored=n_ignored + n_images,
        n_images=n_images,
        not_entered=tuple(sorted(not_entered, key=str)),
    )


def _files(root: Path, not_entered: list[Problem]) -> Iterator[Path]:
    """The files of a folder and below, also those that can't be looked at, which are reported later.

    Links to folders are followed in the folder itself, as folders of classes are often links; deeper down
    they may lead in circles.
    """

    def leave(folder: Path, why: str) -> None:
        if not any(part.startswith(".") for part in folder.relative_to(root).parts):
            not_entered.append(Problem(path_text(str(folder)), why))

    def refused(error: OSError) -> None:
        leave(Path(error.filename), f"the folder can't be opened: {error.strerror}")

    for name, folders, files in os.walk(root, onerror=refused, followlinks=True):
        folder = Path(name)
        # Unlike is_symlink, islink answers also where a folder may be listed but not entered.
        for link in sorted(one for one in folders if os.path.islink(folder / one)):  # noqa: PTH114
            if folder != root or link.startswith("."):
                folders.remove(link)
                leave(folder / link, "a link to a folder; only links beside the class folders are followed")
        yield from (folder / file for file in files if _may_be_clip(folder / file))


def _may_be_clip(path: Path) -> bool:
    """Whether it is a regular file, or can't be looked at."""
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except PermissionError:
        return True
    except OSError:
        return False


def path_text(path: str) -> str:
    """A path as text, with escapes for bytes that are not UTF-8."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _is_still_image(path: Path) -> bool:
    """By its content; one that can't be read is not left out, but reported later."""
    try:
        with path.open("rb") as file:
            return kind_of(file.read(_HEAD_BYTES)) == "image"
    except OSError:
        return False


def _of_csv(file: Path, problems: list[Problem]) -> Listing:
    """The clips that a CSV names; rows with more fields than there are columns are added to the problems."""
    try:
        with file.open(encoding="utf-8-sig", newline="") as opened:
            reader = csv.DictReader(opened, restval="")
            rows, columns = list(reader), reader.fieldnames
    except (UnicodeDecodeError, csv.Error) as error:
        what = "neither a folder nor a CSV in UTF-8 with the columns path and label"
        raise DatasetError(file, [Problem(file.name, what)]) from error
    if columns is None:  # an empty file
        return Listing((), from_folder=False)
    missing = [name for name in ("path", "label") if name not in columns]
    if missing:
        named = ", ".join(repr(column) for column in columns)
        what = f"has no column {' and no column '.join(missing)}; its first row is {named[:200]}"
        raise DatasetError(file, [Problem(file.name, what)])
    clips = []
    for row in rows:
        clip = _of_row(file.parent, row)
        if any(row.get(None, ())):  # where the reader keeps what is beyond the last column
            what = "has more fields than the first row; quote a value with commas"
            problems.append(Problem(clip.name, what))
        else:
            clips.append(clip)
    return Listing(tuple(sorted(clips, key=lambda clip: clip.name)), from_folder=False)


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
    files: dict[str, str] = {}
    labels: dict[str, str] = {}
    for clip in clips:
        where = clip.name or "a row without a path"
        if not clip.name:
            yield Problem(where, f"its label is {clip.label!r}")
        elif (known := files.get(file := _real_path(clip.path))) is not None:
            yield Problem(where, "is listed twice" if known == where else f"is the same file as {known}")
        else:
            files[file] = where
        if clip.split is not None and clip.split not in _WORDS:
            yield Problem(where, f"split {clip.split!r} is none of {', '.join(_WORDS)}")
        if label_key(clip.label) not in labels:
            labels[label_key(clip.label)] = clip.label
            yield from _label_problems(where, clip.label)
        elif (first := labels[label_key(clip.label)]) != clip.label:
            yield Problem(where, f"labels {first!r} and {clip.label!r} differ in case or spacing only")


def _real_path(path: Path) -> str:
    """The path of the file itself, links followed, whether it exists or not."""
    try:
        return os.path.realpath(path)
    except ValueError:  # with a NUL: no file can be called so
        return str(path)


def _label_problems(where: str, label: str) -> Iterator[Problem]:
    try:
        make_label(label)
    except LabelError as error:
        yield Problem(where, error.message)
