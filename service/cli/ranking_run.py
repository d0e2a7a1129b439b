"""Ranks many clips, several at once; writes each result in the order of the clips as soon as it is ready."""

from __future__ import annotations

import os
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import typer

from service.cli.answer_text import as_text, json_line, printable
from service.cli.clip_files import ClipFile
from service.cli.interrupts import INTERRUPTED, Interrupts
from service.errors import AhseError

if TYPE_CHECKING:
    from service.cli.progress import Display
    from service.cli.rankers import Ranker, RankingStoppedError
    from service.cli.records import Failure, Record
    from service.cli.subtitles import Subtitles
    from service.client import Answer

# Clips that are begun for each that is worked on: a slow one does not hold up the others before its turn to
# be written comes.
_AHEAD = 4
OK, SOME_FAILED, NOTHING_DONE = 0, 1, 2
_UNFORESEEN = "Something unforeseen went wrong with this clip here; standard error has the cause."


@dataclass(frozen=True)
class Outputs:
    """Where results go.

    Attributes:
        records: The output file; None: they are printed.
        subtitles: Files beside the clips.
        as_json: Print one JSON object a clip.
        how_to_go_on: Said where a run ends early; empty: it can't go on.
    """

    records: Records | None
    subtitles: Subtitles | None
    as_json: bool
    how_to_go_on: str


class Records(Protocol):
    """Takes a record for each clip, in the order of the clips."""

    def write(self, record: Record) -> None:
        """Take a record."""


def _as_it_is(clip: ClipFile) -> AbstractContextManager[Path]:
    return nullcontext(clip.path)


class RankingRun:
    """One run over all clips.

    Args:
        ranker: Ranks them.
        interrupts: Tells of Ctrl-C.
        outputs: Takes the results.
        opened: Gives the path of a clip for as long as it is needed.
    """

    def __init__(
        self,
        ranker: Ranker,
        interrupts: Interrupts,
        outputs: Outputs,
        opened: Callable[[ClipFile], AbstractContextManager[Path]] = _as_it_is,
    ) -> None:
        self._ranker = ranker
        self._opened = opened
        self._interrupts = interrupts
        self._outputs = outputs
        self._pending: deque[tuple[ClipFile, Future[Answer | Failure]]] = deque()
        self._failed: list[tuple[ClipFile, Failure]] = []
        self._n_answered = 0

    @property
    def n_failed(self) -> int:
        """Clips so far that have no answer."""
        return len(self._failed)

    def rank_all(self, clips: Iterable[ClipFile], display: Display) -> RankingStoppedError | None:
        """Rank clips until all are done, or it makes no sense to go on: returns why then."""
        from service.cli.rankers import RankingStoppedError

        pool = ThreadPoolExecutor(self._ranker.n_jobs, thread_name_prefix="clip")
        left = iter(clips)
        stopped = None
        try:
            while self._begin(left, pool, display):
                clip, future = self._pending[0]
                with self._interrupts.waiting():
                    outcome = self._outcome(clip, future, display)
                self._pending.popleft()
                self._take(clip, outcome, display)
        except RankingStoppedError as error:
            stopped = error
        except KeyboardInterrupt:
            self._ranker.stop()
        for clip, future in self._pending:  # what was done behind the one that was waited for
            if future.done() and future.exception() is None:
                self._take(clip, future.result(), display)
        pool.shutdown(wait=False, cancel_futures=True)
        return stopped

    def end(self, n_clips: int, stopped: RankingStoppedError | None) -> int:
        """Say what is missing.

        Args:
            n_clips: Those of the run.
            stopped: What `rank_all` has returned.

        Returns:
            The exit code. After Ctrl-C it does not return but ends the process, since an upload or a run of a
            model that is under way can't be asked to stop.
        """
        self._sum_up(n_clips, stopped)
        if self._interrupts.came:
            sys.stdout.flush()
            os._exit(INTERRUPTED)
        if stopped is not None:
            return SOME_FAILED if self._n_answered else NOTHING_DONE
        return SOME_FAILED if self._failed else OK

    def _begin(self, left: Iterator[ClipFile], pool: ThreadPoolExecutor, display: Display) -> bool:
        """Begin as many clips as may be; whether any is not done."""
        while len(self._pending) < _AHEAD * self._ranker.n_jobs and (clip := next(left, None)):
            self._pending.append((clip, pool.submit(self._rank, clip, display)))
        return bool(self._pending)

    def _rank(self, clip: ClipFile, display: Display) -> Answer | Failure:
        from service.cli.rankers import ClipFailedError
        from service.cli.records import Failure

        if clip.problem:
            return Failure(clip.code, clip.problem)
        try:
            with self._opened(clip) as path:
                return self._ranker.rank(path, display.sent(clip))
        except (AhseError, ClipFailedError) as error:
            return Failure(error.code, error.message)

    def _outcome(
        self, clip: ClipFile, future: Future[Answer | Failure], display: Display
    ) -> Answer | Failure:
        """Wait for what becomes of a clip; what nobody foresaw is a fault of this clip only."""
        from service.cli.rankers import RankingStoppedError
        from service.cli.records import Failure

        try:
            return future.result()
        except RankingStoppedError:
            raise
        except Exception as error:  # noqa: BLE001  (one clip must not end the work on all others)
            display.message(printable(f"{clip.name}: {type(error).__name__}: {error}"))
            return Failure(AhseError.code, _UNFORESEEN)

    def _take(self, clip: ClipFile, outcome: Answer | Failure, display: Display) -> None:
        """Write a result; the record last, since it says that all of it is there."""
        from service.cli.records import Failure, make_record

        outputs = self._outputs
        record = make_record(clip, self._ranker.question_hash, outcome)
        if isinstance(outcome, Failure):
            self._failed.append((clip, outcome))
            display.message(printable(f"{clip.name}: {outcome.message} [{outcome.code}]"))
        else:
            self._n_answered += 1
            if outputs.subtitles is not None:
                outputs.subtitles.write(clip.name, outcome)
            if outputs.records is None and not outputs.as_json:
                display.result(as_text(clip.name, outcome))
        if outputs.as_json:
            display.result(json_line(record))
        if outputs.records is not None:
            outputs.records.write(record)
        display.done(clip)

    def _sum_up(self, n_clips: int, stopped: RankingStoppedError | None) -> None:
        """Say what is missing, and list what failed where it may have scrolled away."""
        if self._failed and n_clips > 1:
            typer.echo(f"{len(self._failed)} of {n_clips} clips failed:", err=True)
            for clip, failure in self._failed:
                typer.echo(printable(f"  {clip.name} [{failure.code}]"), err=True)
        can_go_on = self._outputs.how_to_go_on and not (stopped is not None and stopped.is_final)
        how = f" {self._outputs.how_to_go_on}" if can_go_on else ""
        done = f"{self._n_answered + len(self._failed)} of {n_clips} clips are done"
        if stopped is not None:
            typer.echo(printable(f"ahse: {stopped.message} {done}.{how}"), err=True)
        elif self._interrupts.came:
            typer.echo(f"ahse: interrupted; {done}.{how}", err=True)
