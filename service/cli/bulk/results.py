"""Results of shards: each one file, which appears when it is complete and is never changed."""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from service.cli.answer_text import printable
from service.cli.bulk.plan import RESULTS, Plan, shard_name
from service.cli.command_app import named_in_errors
from service.cli.parquet_support import parquet_modules, schema_of
from service.cli.records import COLUMNS, Record, Row, rows_of
from service.errors import AhseError, InvalidOptionError, UnavailableError
from service.process import sync

# What is wrong with this machine, or with where clips are kept, now, and not with a clip; what nobody foresaw
# may be so too.
_OF_NOW = {error.code for error in UnavailableError.__subclasses__()} | {AhseError.code}


class ShardResults:
    """Takes the records of some shards in order, and publishes each shard when it has all of its own.

    Args:
        folder: Of the plan.
        shards: Number of each, and the names of its clips; each is asked for when the one before is done.
        say: Takes what becomes of a shard that is not published, in words.
    """

    def __init__(
        self, folder: Path, shards: Iterable[tuple[int, Sequence[str]]], say: Callable[[str], object]
    ) -> None:
        self._say = say
        self._folder = (folder / RESULTS).absolute()
        self._left = iter(shards)
        self._begin()

    def _begin(self) -> None:
        self._shard, self._clips = next(self._left, (-1, ()))
        self._rows: list[Row] = []
        self._n_clips = 0
        self._unfinished = ""

    def write(self, record: Record) -> None:
        """Add the record of the next clip; any other, which comes once a run was interrupted, is dropped."""
        if record["file"] != self._clips[self._n_clips]:
            return
        self._rows += rows_of(record)
        self._n_clips += 1
        code = record.get("error", {}).get("code")
        if code in _OF_NOW and not self._unfinished:
            self._unfinished = f"{record['file']} [{code}]"
        if self._n_clips == len(self._clips):
            if self._unfinished:
                why = f"could not be finished for {printable(self._unfinished)}"
                self._say(f"shard {self._shard} {why}; the same command tries it again")
            else:
                self._publish(self._shard)
            self._begin()

    def _publish(self, shard: int) -> None:
        """Write beside its place and link it there, which fails where another worker was faster."""
        pa, parquet = parquet_modules()
        place = self._folder / shard_name(shard)
        part = place.with_name(f".{place.name}.{os.uname().nodename}-{os.getpid()}")
        try:
            with named_in_errors(place):
                parquet.write_table(pa.Table.from_pylist(self._rows, schema_of(COLUMNS)), part)
            sync(part)  # else a power cut may leave an empty file that counts as done
            _link(part, place)
        except FileExistsError:
            self._say(f"shard {shard} has results of another worker already; these are dropped")
        finally:
            part.unlink(missing_ok=True)


def _link(part: Path, place: Path) -> None:
    """Give a file its name if nothing has that name yet, so that a power cut does not take it away."""
    try:
        os.link(part, place)
    except FileExistsError:
        raise
    except OSError:  # a file system without links; another worker's file has the same rows
        part.replace(place)
    with contextlib.suppress(OSError):  # some network file systems know no such thing
        sync(place.parent)


def is_done(folder: Path, shard: int) -> bool:
    """Whether the results of a shard are there."""
    return (folder / RESULTS / shard_name(shard)).is_file()


@dataclass(frozen=True)
class Status:
    """How far a plan is.

    Attributes:
        missing: Shards without results.
        n_clips: With results.
        failed: How many of them failed, by code.
    """

    missing: tuple[int, ...]
    n_clips: int
    failed: Counter[str]


def read_status(folder: Path, plan: Plan) -> Status:
    """Read what is there.

    Raises:
        InvalidOptionError: The results of a shard are damaged; names their file.
    """
    pa, parquet = parquet_modules()
    missing, n_clips, failed = [], 0, Counter[str]()
    for shard in range(plan.n_shards):
        if not is_done(folder, shard):
            missing.append(shard)
            continue
        file = folder / RESULTS / shard_name(shard)
        try:
            rows = parquet.read_table(file.absolute(), columns=["file", "error"]).to_pylist()
        except pa.ArrowInvalid:
            raise InvalidOptionError(
                f"{file} is damaged; delete it, and run the shard again: ahse bulk run {folder}"
            ) from None
        by_clip = {row["file"]: row["error"] for row in rows}
        n_clips += len(by_clip)
        failed.update(code for code in by_clip.values() if code)
    return Status(tuple(missing), n_clips, failed)
