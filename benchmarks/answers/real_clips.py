"""How often a bundle finds the right name for your labelled clips, by the length of the list of names.

    python -m benchmarks.answers.real_clips DIR [--bundle weights/everyday] [--lists 10 50 100 300 1000]
        [--distractors FILE [--column NAME]] [--verbose] [--json OUT]

DIR has a file labels.csv with the columns `file` and `label` (others are ignored), or a folder for each
class. Every clip is decoded and encoded once, by the service's own code, and ranked among the clips' own
names, among some of them, and among them and distractors. Distractors are the class names of ImageNet that
come with open_clip (`make test` installs it), or the names in a file: one a line, or a column of a CSV; then
there is a list of all of them, too. Names that differ in case or spacing only count once. Still pictures that
labels.csv names are measured as well: each is wrapped, without loss, into a clip of one frame.
"""

from __future__ import annotations

import argparse
import ast
import csv
import importlib.util
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from benchmarks.answers.clip_measure import CannotMeasureError, Distractors, Measured, measure
from benchmarks.answers.clip_report import clip_lines, figures, report
from model_export.errors import DatasetError
from model_export.extract.listing import ListedClip, list_clips
from service.errors import BundleError, LabelError
from service.labels.label import label_key, make_label
from service.registry import Bundle, load_bundle
from service.runtime.providers import Runtime
from service.settings import EVERYDAY_BUNDLE

LABELS_FILE: Final = "labels.csv"
LENGTHS: Final = (10, 50, 100, 300, 1000)
CAN_FAIL: Final = (CannotMeasureError, DatasetError)


def main() -> None:
    """Print the tables in Markdown."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, metavar="DIR")
    add_options(parser)
    options = parser.parse_args()
    try:
        run(options.folder, options)
    except CAN_FAIL as error:
        parser.exit(2, f"{error}\n")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add everything that a report can be told, but for where the clips are."""
    add_ranking_options(parser)
    parser.add_argument("--verbose", action="store_true", help="say of each clip what came first")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write all figures to this file, too")


def add_ranking_options(parser: argparse.ArgumentParser) -> None:
    """Add what says which bundle ranks the clips, and among which names."""
    parser.add_argument(
        "--bundle", type=Path, default=EVERYDAY_BUNDLE, metavar="DIR", help="bundle to measure"
    )
    parser.add_argument(
        "--lists", nargs="+", type=int, default=LENGTHS, metavar="N", help="how many names lists have"
    )
    parser.add_argument("--distractors", type=Path, metavar="FILE", help="other names, one a line")
    parser.add_argument("--column", metavar="NAME", help="read --distractors as a CSV, this column of it")


def run(folder: Path, options: argparse.Namespace, remarks: Sequence[str] = ()) -> None:
    """Measure a folder of clips and print what came out.

    Args:
        folder: With labels.csv, or with a folder for each class.
        options: From `add_options`.
        remarks: What a reader of the figures must know of these clips.

    Raises:
        CannotMeasureError: as `rank_folder`.
        DatasetError: likewise.
    """
    _, measured = rank_folder(folder, options)
    lines = report(measured, remarks)
    if options.verbose:
        lines += ["", *clip_lines(measured)]
    sys.stdout.write("\n".join([*lines, ""]))
    if options.json is not None:
        text = json.dumps(figures(measured, remarks), indent=2, ensure_ascii=False)
        options.json.write_text(text + "\n", encoding="utf-8")


def rank_folder(folder: Path, options: argparse.Namespace) -> tuple[Bundle, Measured]:
    """Load the bundle and rank the clips of a folder by it.

    Args:
        folder: With labels.csv, or with a folder for each class.
        options: From `add_ranking_options`.

    Raises:
        CannotMeasureError: there is nothing to measure, names can't be read, or the bundle can't be used.
        DatasetError: the folders of classes are not as they should be.
    """
    clips = read_clips(folder)
    distractors = read_distractors(options.distractors, options.column)
    try:
        bundle = load_bundle(options.bundle, Runtime(device="cpu"))
    except BundleError as error:
        raise CannotMeasureError(f"{options.bundle}: {error.message}") from None
    sys.stderr.write(f"encoding {len(clips)} clips ...\n")
    return bundle, measure(bundle, clips, distractors, options.lists)


def read_clips(folder: Path) -> tuple[ListedClip, ...]:
    """List the labelled clips of a folder; names that differ in case or spacing only get one spelling.

    Raises:
        CannotMeasureError: there is no such folder, or its labels.csv is not as it should be.
        DatasetError: it has no labels.csv, and no folders of classes or faulty ones.
    """
    if not folder.is_dir():
        raise CannotMeasureError(f"{folder}: there is no such folder. Give the one that has {LABELS_FILE}.")
    if not (folder / LABELS_FILE).is_file():
        return list_clips(folder).clips
    spelt: dict[str, str] = {}
    clips = []
    for row, (file, label) in enumerate(_columns(folder / LABELS_FILE, "file", "label"), 2):
        where = f"{LABELS_FILE}, row {row}"
        if not (folder / file).is_file():
            raise CannotMeasureError(f"{where}: there is no file {file!r} beside it. Correct the row.")
        try:
            name = make_label(label).name
        except LabelError as error:
            raise CannotMeasureError(f"{where}: {error.message}.") from None
        clips.append(ListedClip(folder / file, file, spelt.setdefault(label_key(name), name)))
    if not clips:
        raise CannotMeasureError(f"{LABELS_FILE} has no row. Give a row to each clip below file,label.")
    return tuple(clips)


def _columns(file: Path, *columns: str) -> Iterator[tuple[str, ...]]:
    """These columns of a CSV in UTF-8."""
    try:
        with file.open(encoding="utf-8-sig", newline="") as opened:
            reader = csv.DictReader(opened, restval="")
            for column in columns:
                if column not in (reader.fieldnames or ()):
                    raise CannotMeasureError(f"{file.name} has no column {column!r} in its first row.")
            yield from (tuple(row[column].strip() for column in columns) for row in reader)
    except (UnicodeDecodeError, csv.Error):
        raise CannotMeasureError(f"{file.name} is no CSV in UTF-8. Save it as one.") from None


def read_distractors(file: Path | None, column: str | None = None) -> Distractors:
    """The names of a file, or without one those of ImageNet where open_clip is installed.

    Raises:
        CannotMeasureError: the file can't be read.
    """
    if file is None:
        names = imagenet_names()
        where = (
            "class names of ImageNet-1k" if names else "none: open_clip, which has ImageNet's, is not here"
        )
        return Distractors(names, where, all_at_once=False)
    if not file.is_file():
        raise CannotMeasureError(f"{file}: there is no such file. Give one that has names.")
    if column is not None:
        return Distractors(tuple(name for (name,) in _columns(file, column)), file.name, all_at_once=True)
    try:
        return Distractors(tuple(file.read_text("utf-8-sig").splitlines()), file.name, all_at_once=True)
    except UnicodeDecodeError:
        raise CannotMeasureError(f"{file.name} is no text in UTF-8. Save it as such.") from None


def imagenet_names() -> tuple[str, ...]:
    """`open_clip.IMAGENET_CLASSNAMES`, read from its source: importing it would take seconds and load torch.

    Returns:
        The 1,000 names, two of them twice; none where open_clip is not installed.

    Raises:
        CannotMeasureError: this open_clip keeps them elsewhere.
    """
    package = importlib.util.find_spec("open_clip")
    if package is None or package.origin is None:
        return ()
    file = Path(package.origin).with_name("zero_shot_metadata.py")
    statements = ast.parse(file.read_text(encoding="utf-8")).body if file.is_file() else []
    for one in statements:
        if isinstance(one, ast.Assign) and ast.unparse(one.targets[0]) == "IMAGENET_CLASSNAMES":
            return tuple(ast.literal_eval(one.value))
    raise CannotMeasureError(
        "The installed open_clip has no ImageNet names where they were. Give --distractors FILE."
    )


if __name__ == "__main__":
    main()
