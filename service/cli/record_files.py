"""Files of records: JSON lines, CSV, Parquet. Each is whole at any moment, and can be resumed."""

from __future__ import annotations

import csv
import io
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import suppress
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from service.api.timeline import as_cell
from service.cli.clip_files import ClipFile
from service.cli.command_app import named_in_errors
from service.cli.parquet_support import parquet_modules, schema_of
from service.cli.records import COLUMNS, KEYS, Record, Row, rows_of
from service.errors import InvalidOptionError
from service.process import sync

if TYPE_CHECKING:
    from service.client import Answer

# Clips in one row group of a Parquet file: each is written when it is full.
_CLIPS_PER_GROUP = 500

OnResume = Callable[["RecordFile"], object]
"""Called with a file to resume when it was read, and is still as it was; what this raises leaves it so."""


class RecordFile(ABC):
    """A file of records that grows. Every record is complete before the next one is begun.

    Args:
        path: The file.
        question: What is asked now.
        clips: Of this run.
        on_resume: Called where there is a file to resume.
        resume: Keep what the file has, but for records of these clips that are failures, of another state of
            the file, or of standard input.

    Attributes:
        answered: Names of those of the clips that had an answer when the file was opened.
        segmented: Names of those of them whose answer has segments.
        done: Names of those of them whose answer stays.

    Raises:
        InvalidOptionError: The file to resume is not of this command, or answers another question.
    """

    def __init__(
        self, path: Path, question: str, clips: Sequence[ClipFile], on_resume: OnResume, *, resume: bool
    ) -> None:
        self.path = path
        self._question = question
        self._states = {clip.name: (clip.size_bytes, clip.modified) for clip in clips}
        self._on_resume = on_resume
        self.answered: set[str] = set()
        self.segmented: set[str] = set()
        self.done: set[str] = set()
        with named_in_errors(path):
            self._open(resume=resume and path.exists())

    def write(self, record: Record) -> None:
        """Add a record."""
        with named_in_errors(self.path):
            self._write(record)

    def close(self) -> None:
        """Complete the file."""
        with named_in_errors(self.path):
            self._close()

    def _is_kept(self, one: Mapping[str, Any]) -> bool:
        """Whether a record, or a row of one, stays in the file."""
        try:
            file, size, modified, question = (one[name] for name in KEYS)
        except (KeyError, TypeError):
            raise self._not_ours() from None
        if question != self._question:
            raise InvalidOptionError(
                f"{self.path.name} holds answers for other names, options or another bundle; resume with the "
                "same ones, or choose another file"
            )
        if file not in self._states:
            return True
        if one.get("error"):
            return False
        if size is None:  # of standard input, which is ranked in every run
            self.answered.add(file)
            return False
        if (int(size), modified) != self._states[file]:
            return False
        self.answered.add(file)
        self.done.add(file)
        if one.get("segments") or one.get("start_s") is not None:  # of a record, or of a row
            self.segmented.add(file)
        return True

    def stored(self, names: Set[str]) -> Iterator[tuple[str, Answer]]:
        """The answers of these clips in the file to resume, with the names.

        Raises:
            InvalidOptionError: It is a table, which does not have all of an answer.
        """
        raise InvalidOptionError(
            f"subtitles of clips that are done are missing, such as of {min(names)}, and can't be written "
            f"from the table {self.path.name}; give --timeline in place of --srt and --vtt, or choose "
            "another file that ends in .jsonl"
        )

    def _not_ours(self) -> InvalidOptionError:
        return InvalidOptionError(f"{self.path.name} was not written by ahse classify; choose another file")

    @abstractmethod
    def _open(self, *, resume: bool) -> None:
        """Begin the file, with the answers of the old one if it is resumed."""

    @abstractmethod
    def _write(self, record: Record) -> None:
        """Add a record."""

    @abstractmethod
    def _close(self) -> None:
        """Complete the file."""


class _TextFile(RecordFile):
    """Text that is appended to, one whole record at a time."""

    def _open(self, *, resume: bool) -> None:
        if not resume:
            self._file = self.path.open("w", encoding="utf-8", newline="")
            try:
                self._file.write(self._head())
                self._file.flush()
            except OSError:
                with suppress(OSError):  # else it would try again, and complain, when it is collected
                    self._file.close()
                raise
            return
        # Beside it and in its place when complete, so that nothing is lost meanwhile.
        part = self.path.with_name(f"{self.path.name}.part")
        try:
            with part.open("w", encoding="utf-8", newline="") as new:
                new.write(self._head())
                new.writelines(self._kept())
            self._on_resume(self)
            _put_in_place(part, self.path)
        finally:
            part.unlink(missing_ok=True)
        self._file = self.path.open("a", encoding="utf-8", newline="")

    def _write(self, record: Record) -> None:
        """Add a record, on disk before the next clip."""
        self._file.write(self._text(record))
        self._file.flush()

    def _close(self) -> None:
        self._file.close()

    def _head(self) -> str:
        return ""

    def _whole_lines(self) -> Iterator[str]:
        """Of the old file all but what was cut, perhaps inside a character, when the program was killed."""
        with self.path.open("rb") as old:
            for line in old:
                if line.endswith(b"\n"):
                    try:
                        yield line.decode()
                    except UnicodeDecodeError:
                        raise self._not_ours() from None

    @abstractmethod
    def _text(self, record: Record) -> str:
        """A record as text."""

    @abstractmethod
    def _kept(self) -> Iterator[str]:
        """Of the old file the text of answers."""


class JsonLines(_TextFile):
    """One JSON object a line."""

    def _text(self, record: Record) -> str:
        return json.dumps(record, ensure_ascii=False) + "\n"

    def _kept(self) -> Iterator[str]:
        for line in self._whole_lines():
            try:
                record = json.loads(line)
            except ValueError:
                raise self._not_ours() from None
            if self._is_kept(record):
                yield line

    def stored(self, names: Set[str]) -> Iterator[tuple[str, Answer]]:
        """The answers of these clips in the file to resume, with the names."""
        from service.client import Answer

        for record in map(json.loads, self._whole_lines()):
            if record["file"] in names:
                try:
                    answer = Answer.read({**record, "id": ""})
                except (KeyError, TypeError):
                    raise self._not_ours() from None
                yield record["file"], answer


class Csv(_TextFile):
    """CSV (RFC 4180) with a heading. When it is resumed, the last clip is ranked again."""

    def _head(self) -> str:
        return _csv_text([list(COLUMNS)])

    def _text(self, record: Record) -> str:
        return _csv_text([_cell(row.get(column)) for column in COLUMNS] for row in rows_of(record))

    def _kept(self) -> Iterator[str]:
        lines = filter(None, csv.reader(self._whole_lines()))  # some programs end a table with an empty line
        if next(lines, None) != list(COLUMNS):
            raise self._not_ours()
        clip: list[list[str]] = []
        for _, rows in groupby(lines, itemgetter(0)):
            yield from self._kept_of(clip)
            clip = list(rows)
        last = list(self._kept_of(clip))
        # Nothing tells whether the rows of the last clip are all there.
        if last and (name := _from_cell(clip[0][0])) in self._states:
            self.done.discard(str(name))
        else:
            yield from last

    def _kept_of(self, clip: list[list[str]]) -> Iterator[str]:
        """Of the rows of a clip the text of those that stay."""
        for cells in clip:
            row = {name: _from_cell(cell) for name, cell in zip(COLUMNS, cells, strict=False)}
            if self._is_kept(row):
                yield _csv_text([cells])


def _csv_text(rows: Iterable[list[Any]]) -> str:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue()


def _cell(value: object) -> object:
    return as_cell(value) if isinstance(value, str) else value


def _from_cell(text: str) -> str | None:
    """What the cell was made of, as text."""
    was = text[1:]
    return was if text.startswith("'") and as_cell(was) == text else text or None


class Parquet(RecordFile):
    """Parquet, which is complete when it is closed; until then it is beside its place, ending in `.part`."""

    def _open(self, *, resume: bool) -> None:
        pa, parquet = parquet_modules()
        self._schema = schema_of(COLUMNS)
        self._table = pa.Table
        self._part = self.path.with_name(f"{self.path.name}.part").absolute()
        self._rows: list[Row] = []
        self._n_clips = 0
        self._writer = parquet.ParquetWriter(self._part, self._schema)
        if resume:
            try:
                self._keep(parquet.ParquetFile(self.path.absolute()))
                self._on_resume(self)
            except BaseException as error:
                self._writer.close()
                self._part.unlink()
                if isinstance(error, pa.ArrowInvalid):
                    raise self._not_ours() from None
                raise

    def _keep(self, old: Any) -> None:
        if old.schema_arrow != self._schema:
            raise self._not_ours()
        for group in range(old.num_row_groups):
            rows = old.read_row_group(group).to_pylist()
            self._rows = [row for row in rows if self._is_kept(row)]
            self._write_group()

    def _write(self, record: Record) -> None:
        """Add a record; it is on disk when its group is full."""
        self._rows += rows_of(record)
        self._n_clips += 1
        if self._n_clips % _CLIPS_PER_GROUP == 0:
            self._write_group()

    def _write_group(self) -> None:
        if self._rows:
            self._writer.write_table(self._table.from_pylist(self._rows, self._schema))
        self._rows = []

    def _close(self) -> None:
        """Write the rest and the index, and put the file in its place."""
        self._write_group()
        self._writer.close()
        _put_in_place(self._part, self.path)


def _put_in_place(part: Path, path: Path) -> None:
    """Replace a file by a complete one: a power cut leaves one of them whole."""
    sync(part)
    part.replace(path)


_BY_ENDING: Mapping[str, type[RecordFile]] = {
    ".jsonl": JsonLines,
    ".ndjson": JsonLines,
    ".csv": Csv,
    ".parquet": Parquet,
}


def open_records(
    path: Path,
    question: str,
    clips: Sequence[ClipFile],
    on_resume: OnResume = lambda _: None,
    *,
    resume: bool,
    overwrite: bool,
) -> RecordFile:
    """Open a file for records, by its ending.

    Args:
        path: The file.
        question: What is asked.
        clips: Of this run.
        on_resume: Called where there is a file to go on with.
        resume: Go on with it if it is there.
        overwrite: Or else replace it.

    Raises:
        InvalidOptionError: Its ending is of no known form, it is there already, or it can't be resumed.
        OSError: It can't be written.
    """
    kind = _BY_ENDING.get(path.suffix.lower())
    if kind is None:
        raise InvalidOptionError(f"{path.name}: choose a file that ends in .jsonl, .csv or .parquet")
    if path.exists() and not (resume or overwrite):
        raise InvalidOptionError(
            f"{path.name} is there already; go on with it (--resume), replace it (--overwrite) or choose "
            "another file"
        )
    return kind(path, question, clips, on_resume, resume=resume)
